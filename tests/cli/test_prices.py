"""`falgate prices`: what is in force, whether fal says the same, and what another would have cost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Done, falgate, installed, real
from tests.conftest import FAL_KEY
from tests.embedded.owners import query
from tests.sandbox.running import IMAGE, TEXT, Sandbox, run_sandbox

PRICE = {"endpoint": TEXT, "base_seconds": 5, "base_usd": "1.50", "usd_per_second": "0.30"}
CHARGED = f"""
WITH team AS (INSERT INTO teams (id, name, created_at) VALUES (gen_random_uuid(), 'Film', now()) RETURNING id)
INSERT INTO jobs (id, status, model, endpoint, input, seconds, quoted_usd, held_usd, charged_usd, price_id,
                  quota_usage_ids, user_id, team_id, key_id, created_at, queued_at, finished_at, payload_erased_at)
SELECT gen_random_uuid(), 'succeeded', 'kling-2.1-master', '{TEXT}',
       CASE WHEN erased THEN 'null' ELSE json_build_object('duration', seconds::text) END, seconds, 0.28 * seconds, 0,
       0.28 * seconds, gen_random_uuid(), '{{}}', gen_random_uuid(), team.id, gen_random_uuid(), now(), now(), now(),
       CASE WHEN erased THEN now() END
FROM team, (VALUES (5, false), (10, false), (10, true)) AS made (seconds, erased)
"""  # noqa: S608  ours


@pytest.fixture(scope="module")
def fal() -> Iterator[Sandbox]:
    with run_sandbox() as (sandbox, _):
        yield sandbox


def prices(*arguments: str, folder: Path, database_url: str, fal_url: str = "http://127.0.0.1:9") -> Done:
    done = falgate("prices", *arguments, folder=folder, **real(database_url, FAL_API_URL=f"{fal_url}/v1"))
    assert FAL_KEY not in done.out + done.err
    return done


def one_sentence(done: Done) -> str:
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1
    return done.err.removeprefix("falgate: ")


def test_those_in_force_are_listed(database_url: str, tmp_path: Path) -> None:
    done = installed("prices", "list", folder=tmp_path, **real(database_url))
    assert (done.code, done.err) == (0, "")
    assert f"{TEXT} {{}}: 1.40 for 5 s and then 0.28 a second, since 2026-01-01 00:00Z" in done.out.splitlines()


def test_the_check_agrees_or_shows_each_difference_and_what_would_mend_it(
    database_url: str, tmp_path: Path, fal: Sandbox
) -> None:
    done = prices("check", folder=tmp_path, database_url=database_url, fal_url=fal.url)
    assert (done.code, done.err) == (0, "")
    assert f"agrees: {TEXT}: fal's 0.28 a second agrees." in done.out.splitlines()
    before = query(database_url, "SELECT * FROM prices")
    try:
        fal.http.post("/_sandbox/prices", json={"endpoint_id": TEXT, "unit_price": "0.30"})
        fal.http.post("/_sandbox/prices", json={"endpoint_id": IMAGE, "unit_price": None})
        done = prices("check", folder=tmp_path, database_url=database_url, fal_url=fal.url)
    finally:
        fal.http.delete("/_sandbox/prices")
    assert (done.code, done.err) == (1, "")
    lines = done.out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith(f"differs: {TEXT}: ")]
    proposed: dict[str, Any] = json.loads(lines[at + 1].partition("/v1/prices ")[2])
    assert (proposed["base_usd"], proposed["usd_per_second"]) == ("1.50", "0.30")
    assert [line for line in lines if line.startswith(f"not listed: {IMAGE}: ")]
    assert query(database_url, "SELECT * FROM prices") == before, "nothing is applied"


def test_a_fal_that_refuses_or_is_away_is_one_sentence(database_url: str, tmp_path: Path, fal: Sandbox) -> None:
    assert "ask again" in one_sentence(prices("check", folder=tmp_path, database_url=database_url))
    fal.set_fault(call="pricing", fault="401", times=1)
    refused = prices("check", folder=tmp_path, database_url=database_url, fal_url=fal.url)
    assert "FAL_KEY (401)" in one_sentence(refused)


def test_a_price_is_simulated_on_what_was_charged(database_url: str, tmp_path: Path) -> None:
    query(database_url, CHARGED)
    done = prices("simulate", json.dumps(PRICE), folder=tmp_path, database_url=database_url)
    assert (done.code, done.err) == (0, "")
    words = "3 jobs were charged 7.00 USD, would have been 7.50 (0.50)"
    assert done.out.splitlines() == [f"Film: {words}", f"all: {words}"]
    some = PRICE | {"when": {"duration": "10"}}
    done = prices("simulate", json.dumps(some), "--days", "1", folder=tmp_path, database_url=database_url)
    nothing, unknown, unpriced = done.out.splitlines()
    assert nothing.startswith("all: 0 jobs")
    assert unknown.startswith("1 more cannot be told")
    assert unpriced.startswith("1 more would have been refused")


@pytest.mark.parametrize(
    "price", ["", "[]", "{}", "\udcff", '{"endpoint": "x"}', json.dumps(PRICE | {"endpoint": "x"}), "{"]
)
def test_what_is_no_price_is_one_sentence(database_url: str, tmp_path: Path, price: str) -> None:
    one_sentence(prices("simulate", price, folder=tmp_path, database_url=database_url))


def test_an_empty_database_is_one_sentence(empty_url: str, tmp_path: Path) -> None:
    done = falgate("prices", "check", folder=tmp_path, **real(empty_url))
    assert done.code == 2
    assert len(done.err.splitlines()) == 1

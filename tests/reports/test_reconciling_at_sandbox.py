"""`falgate reconcile` against the sandbox's bill: what was planted there is found, in four lists, and adjusted."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.ledger.audit import audit
from tests.cli.commands import Done, falgate, real
from tests.conftest import settings_for
from tests.gateway import Gateway, run_gateway
from tests.sandbox.running import TEXT, Sandbox, run_sandbox

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "an-admin-of-fal:with-a-long-enough-secret"
PROMPTS = ("a boat", "[odd-units]", "unbilled", "[zero-units] billed", "in pieces", "[refuse-billed]", "[500]")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with run_sandbox("--speed", "100") as (sandbox, _):
        yield sandbox


def urls(sandbox: Sandbox) -> dict[str, str]:
    given = {"fal_queue_url": sandbox.url, "fal_rest_url": sandbox.url, "fal_api_url": f"{sandbox.url}/v1"}
    return given | {"fal_admin_key": ADMIN_KEY}


def reconcile(database_url: str, sandbox: Sandbox, folder: Path, *arguments: str) -> Done:
    settings = {name.upper(): value for name, value in urls(sandbox).items()}
    return falgate("reconcile", *arguments, folder=folder, **real(database_url, **settings))


def plant(sandbox: Sandbox, found: dict[str, dict[str, Any]]) -> None:
    """fal leaves one out, bills one that it said was free, one in three events, and one that is not ours."""
    change = [
        {"request_id": found["unbilled"]["fal_request_id"], "cost_usd": None},
        {"request_id": found["[zero-units] billed"]["fal_request_id"], "cost_usd": "1.40"},
        {"request_id": found["in pieces"]["fal_request_id"], "events": 3},
    ]
    extra = [
        {"request_id": "b0b0b0b0-1111-4222-8333-444444444444", "endpoint_id": TEXT, "cost_usd": "2.80"},
        {"request_id": found["a boat"]["fal_request_id"], "endpoint_id": TEXT, "cost_usd": "0.28"},
        {"request_id": found["a boat"]["fal_request_id"], "endpoint_id": TEXT, "cost_usd": "-0.28"},
    ]
    answer = sandbox.http.post("/_sandbox/bill", json={"change": change, "extra": extra})
    assert answer.status_code == 200, answer.text


async def ended_jobs(gateway: Gateway) -> dict[str, dict[str, Any]]:
    await gateway.set_quota("1000")
    person = await gateway.make_person()
    made = [(await gateway.submit(person, prompt)).json()["id"] for prompt in PROMPTS]
    jobs = await asyncio.gather(*(gateway.job(person, job_id, wait=60) for job_id in made))
    assert all(job["finished_at"] for job in jobs), jobs
    return dict(zip(PROMPTS, jobs, strict=True))


def masked(text: str) -> list[str]:
    """Its lines in any order, as what ended at the same moment has none; without ids and moments."""
    text = re.sub(r"job_[0-9a-f]{32}", "job_…", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "REQUEST", text)
    return sorted(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "MOMENT", text).splitlines())


def transcripts() -> list[list[str]]:
    """What docs/accounting.md shows of the command, one after the other."""
    shown = (
        (ROOT / "docs" / "accounting.md").read_text().split("<!-- reconciling: ")[1].split("<!-- /reconciling -->")[0]
    )
    return [masked(part) for part in re.findall(r"```text\n(.*?)```", shown, re.DOTALL)]


async def test_the_four_lists_of_a_sandbox_run_are_those_of_the_docs(
    database_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    settings = settings_for(database_url, poll_seconds="0.2", **urls(sandbox))
    days_ago = timedelta(days=3)
    async with run_gateway(settings, clock=lambda: datetime.now(UTC) - days_ago) as gateway:
        found = await ended_jobs(gateway)
        plant(sandbox, found)

        sandbox.set_fault(call="bill", fault="500", times=1)
        first = await asyncio.to_thread(reconcile, database_url, sandbox, tmp_path)
        assert first.code == 1, first
        again = await asyncio.to_thread(reconcile, database_url, sandbox, tmp_path, "--csv", "lines.csv")
        assert again.out.split("\n")[1:] == first.out.split("\n")[1:]
        assert "0 new, 0 withdrawn" in again.out
        lines = (tmp_path / "lines.csv").read_text().splitlines()
        assert len(lines) == 1 + 7
        adjusted = await asyncio.to_thread(reconcile, database_url, sandbox, tmp_path, "--adjust")
        assert adjusted.code == 1, adjusted  # somebody else's request stays
        assert transcripts() == [masked(first.out), masked(adjusted.out)]
        assert await audit(gateway.wiring.db, zone=settings.zone) == []

        sandbox.set_fault(call="bill", fault="401")
        refused = await asyncio.to_thread(reconcile, database_url, sandbox, tmp_path)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err == (
            "falgate: fal's bill cannot be read just now (fal answered 401): is the scope of FAL_ADMIN_KEY ADMIN?"
            " Nothing was changed.\n"
        )


def test_without_an_admin_key_it_says_so(database_url: str, tmp_path: Path) -> None:
    done = falgate("reconcile", folder=tmp_path, **real(database_url))
    assert (done.code, done.err) == (
        2,
        "falgate: FAL_ADMIN_KEY is not set: fal shows its bill to a key of scope ADMIN only.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "yesterday"), "--since: give a date"),
        (("--since", "2026-02-02", "--until", "2026-02-01"), "--until: must lie after"),
        (("--since", "2999-01-01"), "--since: must lie before now"),
        (("--since", "9999-01-01"), "--since: must lie in the years"),
    ],
)
def test_absurd_periods_are_refused(
    database_url: str, sandbox: Sandbox, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = reconcile(database_url, sandbox, tmp_path, *arguments)
    assert done.code == 1
    assert words in done.err

"""The answer to a COMMIT is lost: what happened is looked up, and what nobody can tell is said to be unknown."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app import db
from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import ADMIN, Gateway, run_gateway
from tests.ledger.relay import Cut, Relay, relay_to

from .conftest import fresh_database
from .world import count_rows, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

LOST: list[Cut] = ["before COMMIT", "after COMMIT"]


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def relayed(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[tuple[Gateway, Relay]]:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            relay_to(fresh_database(postgres, template), Path(folder)) as (relay, url),
            run_gateway(settings_for(url), work=False) as gateway,
        ):
            yield gateway, relay


@pytest.mark.parametrize("cut", LOST)
@pytest.mark.parametrize("path", ["/v1/teams", "/v1/keys", "/v1/quotas"])
async def test_a_write_that_stands_in_the_audit_log_is_answered_as_it_went(
    path: str, cut: Cut, relayed: tuple[Gateway, Relay]
) -> None:
    gateway, relay = relayed
    ann = await gateway.make_person()
    body = {
        "/v1/teams": {"name": f"Film {ann.user_id}"},
        "/v1/keys": {"name": "key", "user_id": ann.user_id},
        "/v1/quotas": {"scope": "user", "scope_id": ann.user_id, "metric": "usd", "window": "day", "maximum": "10"},
    }[path]
    before = (await count_rows(gateway))["audit_log"]
    relay.cut = cut
    answer = await gateway.client.post(path, json=body, headers=ADMIN)
    assert relay.cut == "never"
    written = (await count_rows(gateway))["audit_log"] - before
    if cut == "after COMMIT":
        assert answer.status_code == 201, answer.text
        assert written == 1
        assert path != "/v1/keys" or len(answer.json()["secret"]) == 52
    else:
        assert "may" not in refusal(answer, 503, "unavailable")["detail"]
        assert written == 0


@pytest.mark.parametrize("cut", LOST)
async def test_a_cancel_looks_again(cut: Cut, relayed: tuple[Gateway, Relay]) -> None:
    gateway, relay = relayed
    ann = await gateway.make_person()
    job_id = (await gateway.submit(ann)).json()["id"]
    relay.cut = cut
    answer = await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert relay.cut == "never"


async def test_what_nobody_can_tell_is_said_to_be_unknown(
    relayed: tuple[Gateway, Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, relay = relayed
    monkeypatch.setattr(db, "_LOOK_UP_SECONDS", 0.3)
    looked_up = gateway.wiring.db._has_happened

    async def is_away(probe: str, key: object) -> bool:
        relay.cut_off()
        return await looked_up(probe, key)  # type: ignore[arg-type]

    monkeypatch.setattr(gateway.wiring.db, "_has_happened", is_away)
    relay.cut = "after COMMIT"
    answer = await gateway.client.post("/v1/teams", json={"name": "Unknown"}, headers=ADMIN)
    assert "may have happened" in refusal(answer, 503, "unavailable")["detail"]
    relay.cut = "never"
    assert (await gateway.client.post("/v1/teams", json={"name": "Unknown"}, headers=ADMIN)).status_code == 409

"""The audit log: who, when, from what to what; appended to and nothing else."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.accounts import audit_log
from app.accounts.callers import COMMAND_LINE

from .office import ADMIN_SECRET, START, Office, Somebody


async def entries(office: Office, query: str = "") -> list[dict[str, Any]]:
    answer = await office.call(office.admin, "GET", f"/v1/audit-log?limit=100{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_a_change_is_logged_from_what_to_what(office: Office) -> None:
    office.clock.advance(1)
    await office.call(office.admin, "PATCH", f"/v1/users/{office.member.user_id}", role="lead", name="Mia")
    (newest, *_) = await entries(office)
    assert newest == {
        "id": newest["id"],
        "at": "2026-05-04T12:00:01Z",
        "actor": f"{office.admin.user_id}/{office.admin.key_id}",
        "action": "user.changed",
        "object_id": office.member.user_id,
        "before": {"role": "member"},
        "after": {"role": "lead"},
    }


async def test_what_changes_nothing_is_not_logged(office: Office) -> None:
    before = len(await entries(office))
    path = f"/v1/teams/team_{office.film.id.hex}"
    for body in ({}, {"name": "Film"}, {"external_id": None}, {"archived": False}):
        assert (await office.call(office.admin, "PATCH", path, **body)).status_code == 200
    assert len(await entries(office)) == before


async def test_what_was_refused_is_not_logged(office: Office) -> None:
    before = len(await entries(office))
    assert (await office.call(office.admin, "POST", "/v1/teams", name="Film")).status_code == 409
    assert len(await entries(office)) == before


async def test_the_life_of_a_key_is_told_with_its_actors(office: Office) -> None:
    path = f"/v1/keys/{office.member.key_id}"
    calls: list[tuple[Somebody | str, str, str, dict[str, Any]]] = [
        (office.member, "PATCH", "", {"name": "laptop"}),
        (office.lead, "POST", "/rotate", {"grace_seconds": 60}),
        (ADMIN_SECRET, "DELETE", "", {}),
    ]
    for who, method, ending, body in calls:
        office.clock.advance(2)
        assert (await office.call(who, method, path + ending, **body)).is_success
    told = await entries(office, f"&object_id={office.member.key_id}")
    assert [(entry["action"], entry["actor"].partition("/")[0]) for entry in reversed(told)] == [
        ("key.created", "command line"),
        ("key.changed", office.member.user_id),
        ("key.rotated", office.lead.user_id),
        ("key.revoked", "ADMIN_KEY"),
    ]
    assert told[0]["after"] == {"revoked_at": "2026-05-04T12:00:06Z"}
    assert told[1]["before"] == {"prefix": office.member.key.prefix}
    assert set(told[1]["after"]) == {"prefix", "grace_seconds"}
    assert told[-1]["before"] is None


async def test_it_is_searched_by_action_and_by_time(office: Office) -> None:
    office.clock.advance(60)
    await office.team("Late")
    assert {entry["action"] for entry in await entries(office, "&action=team.created")} == {"team.created"}
    since = await entries(office, "&since=2026-05-04T12:01:00Z")
    assert [entry["after"]["name"] for entry in since] == ["Late"]
    until = await entries(office, "&until=2026-05-04T12:01:00Z&action=team.created")
    assert {entry["after"]["name"] for entry in until} == {"Film", "Print"}
    for far in ("&since=1970-01-01T00:00:00Z", "&until=9998-12-31T23:59:59Z"):
        assert len(await entries(office, far)) == len(await entries(office))


async def test_other_rooms_write_figures_as_strings(office: Office) -> None:
    async with office.db.begin() as tx:
        await audit_log.write(
            tx,
            actor=COMMAND_LINE,
            action="quota.changed",
            object_id="quota_x",
            before={"maximum": Decimal("1.50")},
            after={"maximum": Decimal(2), "at": START},
            now=START,
        )
    (entry,) = await entries(office, "&object_id=quota_x")
    assert (entry["before"], entry["after"]) == (
        {"maximum": "1.50"},
        {"maximum": "2", "at": "2026-05-04T12:00:00Z"},
    )


@pytest.mark.parametrize(
    "statement", ["DELETE FROM audit_log", "UPDATE audit_log SET actor = 'x'", "TRUNCATE audit_log"]
)
async def test_nothing_in_it_is_ever_changed(office: Office, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        async with office.db.begin() as tx:
            await tx.execute(text(statement))

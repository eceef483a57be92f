"""Keys: a secret is shown once, rotated with grace, and kept nowhere."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from app.accounts import keys
from app.accounts.callers import COMMAND_LINE
from app.accounts.key_secrets import hash_of
from app.accounts.shapes import KeyRotation
from app.accounts.tables import audit_log, key_secrets, users

from .office import ADMIN_SECRET, START, Office


async def make_key(office: Office, **more: Any) -> dict[str, Any]:
    answer = await office.call(
        office.lead, "POST", "/v1/keys", user_id=office.member.user_id, name="render farm", **more
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def rotate(office: Office, key_id: str, grace_seconds: int = 0) -> str:
    answer = await office.call(ADMIN_SECRET, "POST", f"/v1/keys/{key_id}/rotate", grace_seconds=grace_seconds)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == key_id
    secret: str = answer.json()["secret"]
    assert answer.json()["prefix"] == secret[:11]
    return secret


async def test_a_new_key_shows_its_secret_this_once(office: Office) -> None:
    made = await make_key(office, expires_at="2026-05-05T14:00:00+02:00")
    assert made == {
        "id": made["id"],
        "secret": made["secret"],
        "prefix": made["secret"][:11],
        "user_id": office.member.user_id,
        "name": "render farm",
        "expires_at": "2026-05-05T12:00:00Z",
        "revoked_at": None,
        "last_used_at": None,
        "created_at": "2026-05-04T12:00:00Z",
    }
    assert await office.may_call(made["secret"])
    listed = await office.call(office.member, "GET", "/v1/keys")
    assert "secret" not in listed.json()["data"][0]
    assert made["secret"] not in listed.text
    assert made["secret"] not in repr(office.member.key)


async def test_an_answer_with_a_secret_is_not_to_be_kept(office: Office) -> None:
    made = await office.call(office.lead, "POST", "/v1/keys", user_id=office.member.user_id, name="render farm")
    rotated = await office.call(ADMIN_SECRET, "POST", f"/v1/keys/{made.json()['id']}/rotate")
    for answer in (made, rotated):
        assert "secret" in answer.json()
        assert answer.headers["cache-control"] == "no-store"


async def test_no_secret_is_stored_anywhere(office: Office) -> None:
    made = await make_key(office)
    secrets = [office.member.key.secret, made["secret"], await rotate(office, made["id"], 60), ADMIN_SECRET]
    async with office.db.reading() as tx:
        tables = list(await tx.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))
        assert {"keys", "key_secrets", "audit_log"} <= set(tables)
        for table in tables:
            rows = await tx.scalars(text(f'SELECT CAST(t AS text) FROM "{table}" t'))  # noqa: S608
            for row in rows:
                for secret in secrets:
                    assert secret not in row
                    assert secret[11:] not in row
                    assert secret.encode().hex() not in row


async def test_the_audit_log_knows_neither_secret_nor_hash(office: Office) -> None:
    made = await make_key(office)
    secrets = [office.member.key.secret, made["secret"], await rotate(office, made["id"])]
    async with office.db.reading() as tx:
        log = "".join(str(row) for row in await tx.execute(select(audit_log)))
    for secret in secrets:
        known = hash_of(secret)
        assert known is not None
        assert secret[3:11] in log
        assert secret[3:20] not in log
        assert known.hex() not in log


async def test_a_rotated_key_keeps_its_id_and_its_old_secret_ends_at_once(office: Office) -> None:
    secret = await rotate(office, office.member.key_id)
    assert await office.may_call(secret)
    assert not await office.may_call(office.member.key.secret)


async def test_grace_keeps_the_old_secret_for_exactly_so_long(office: Office) -> None:
    secret = await rotate(office, office.member.key_id, 60)
    office.clock.advance(59.999)
    assert await office.may_call(office.member.key.secret)
    office.clock.advance(0.001)
    assert not await office.may_call(office.member.key.secret)
    assert await office.may_call(secret)


async def test_a_second_rotation_lets_no_secret_live_longer_than_it_would_have(office: Office) -> None:
    second = await rotate(office, office.member.key_id, 60)
    third = await rotate(office, office.member.key_id, 3600)
    office.clock.advance(60)
    assert not await office.may_call(office.member.key.secret)
    assert await office.may_call(second)
    fourth = await rotate(office, office.member.key_id)
    assert [await office.may_call(secret) for secret in (second, third, fourth)] == [False, False, True]


async def test_secrets_that_have_ended_are_forgotten(office: Office) -> None:
    for _ in range(5):
        await rotate(office, office.member.key_id)
    async with office.db.reading() as tx:
        of_key = select(func.count()).where(key_secrets.c.key_id == office.member.key.id)
        assert await tx.scalar(of_key) == 1


async def test_rotations_at_once_leave_one_lasting_secret(office: Office) -> None:
    async def one() -> str:
        async with office.db.begin() as tx:
            made = await keys.rotate_key(
                tx, office.member.key.id, KeyRotation(), actor=COMMAND_LINE, now=office.clock()
            )
            return made.secret

    secrets = await asyncio.gather(*(one() for _ in range(6)))
    assert [await office.may_call(secret) for secret in secrets].count(True) == 1


async def test_grace_outlives_neither_revocation_nor_expiry(office: Office) -> None:
    await rotate(office, office.member.key_id, 60)
    await office.call(ADMIN_SECRET, "DELETE", f"/v1/keys/{office.member.key_id}")
    assert not await office.may_call(office.member.key.secret)
    made = await make_key(office, expires_at="2026-05-04T12:00:30Z")
    await rotate(office, made["id"], 60)
    office.clock.advance(30)
    assert not await office.may_call(made["secret"])


async def test_a_key_that_has_ended_is_not_rotated(office: Office) -> None:
    made = await make_key(office, expires_at="2026-05-04T13:00:00Z")
    await office.call(ADMIN_SECRET, "DELETE", f"/v1/keys/{office.member.key_id}")
    office.clock.advance(3600)
    for key_id in (made["id"], office.member.key_id):
        answer = await office.call(ADMIN_SECRET, "POST", f"/v1/keys/{key_id}/rotate")
        assert (answer.status_code, answer.json()["code"]) == (409, "key-ended")


async def test_revoking_twice_changes_nothing_more(office: Office) -> None:
    path = f"/v1/keys/{office.other_member.key_id}"
    for _ in range(2):
        assert (await office.call(office.admin, "DELETE", path)).status_code == 204
        office.clock.advance(5)
    (key,) = (await office.call(office.admin, "GET", f"/v1/keys?user_id={office.other_member.user_id}")).json()["data"]
    assert key["revoked_at"] == "2026-05-04T12:00:00Z"


@pytest.mark.parametrize("moment", [START, START - timedelta(days=1), datetime(1, 1, 1, tzinfo=UTC)])
async def test_a_key_does_not_expire_before_it_is_made(office: Office, moment: datetime) -> None:
    answer = await office.call(
        office.lead, "POST", "/v1/keys", name="x", user_id=office.member.user_id, expires_at=moment.isoformat()
    )
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/expires_at"]


async def test_all_that_is_wrong_with_a_key_is_said_at_once(office: Office) -> None:
    answer = await office.call(
        office.lead, "POST", "/v1/keys", name="x", user_id="user_" + "0" * 32, expires_at=START.isoformat()
    )
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/user_id", "/expires_at"]


async def test_no_key_is_made_that_could_not_be_used(office: Office) -> None:
    await office.call(office.admin, "PATCH", f"/v1/users/{office.member.user_id}", disabled=True)
    await office.call(office.admin, "PATCH", f"/v1/teams/team_{office.print.id.hex}", archived=True)
    for somebody in (office.member, office.other_member):
        answer = await office.call(office.admin, "POST", "/v1/keys", name="x", user_id=somebody.user_id)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/user_id")


async def test_a_key_is_renamed_and_nothing_else_of_it_changes(office: Office) -> None:
    path = f"/v1/keys/{office.member.key_id}"
    answer = await office.call(office.member, "PATCH", path, name="laptop")
    assert answer.json()["name"] == "laptop"
    for field in ("expires_at", "user_id", "secret", "revoked_at", "prefix"):
        assert (await office.call(office.member, "PATCH", path, **{field: None})).status_code == 422


async def test_a_lead_who_is_too_late_gets_no_admins_key(office: Office) -> None:
    """Mia is being promoted while the lead asks for a key of hers: it waits, then it is refused."""
    async with office.db.begin() as tx:
        await tx.execute(update(users).values(role="admin").where(users.c.id == office.member.user.id))
        asked = asyncio.create_task(
            office.call(office.lead, "POST", "/v1/keys", name="x", user_id=office.member.user_id)
        )
        await asyncio.sleep(0.1)
        assert not asked.done()
    assert (await asked).status_code == 403

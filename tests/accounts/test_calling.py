"""Who is let in: each request asks afresh, and whoever lost their right is refused at once."""

from datetime import timedelta

import pytest

from app.accounts.callers import CALLER_FROM, find_caller, sql_caller, sql_live
from app.accounts.key_secrets import hash_of, new_secret

from .office import ADMIN_SECRET, START, Office, told


async def test_a_live_key_names_its_user_and_team(office: Office) -> None:
    known = hash_of(office.lead.key.secret)
    assert known is not None
    async with office.db.reading() as tx:
        caller = await find_caller(tx, known, now=START)
    assert caller is not None
    assert (caller.key_id, caller.user_id) == (office.lead.key.id, office.lead.user.id)
    assert (caller.team_id, caller.team_name) == (office.film.id, "Film")
    assert (caller.user_name, caller.key_name, caller.role) == ("Lea", "a key", "lead")
    assert caller.is_stale


async def test_the_hot_paths_ask_the_same_question_in_plain_sql(office: Office) -> None:
    statement = f"SELECT {sql_caller('$2')} FROM {CALLER_FROM} WHERE s.hash = $1 AND {sql_live('$2')}"  # noqa: S608
    async with office.db.plain() as plain:
        row = await plain.fetchrow(statement, hash_of(office.member.key.secret), START)
        assert row is not None
        assert dict(row) == {
            "key_id": office.member.key.id,
            "user_id": office.member.user.id,
            "team_id": office.film.id,
            "role": "member",
            "is_stale": True,
        }
        assert await plain.fetchrow(statement, hash_of(new_secret()), START) is None


async def test_a_secret_never_made_is_refused(office: Office) -> None:
    answer = await office.call(new_secret(), "GET", "/v1/keys")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "key-unknown"


async def test_all_refusals_are_one_and_the_same(office: Office) -> None:
    await office.call(office.admin, "DELETE", f"/v1/keys/{office.member.key_id}")
    await office.call(office.admin, "PATCH", f"/v1/users/{office.finance.user_id}", disabled=True)
    secrets = [new_secret(), office.member.key.secret, office.finance.key.secret, "nonsense"]
    answers = [await office.call(secret, "GET", "/v1/keys") for secret in secrets]
    none = await office.client.get("/v1/keys")
    assert none.status_code == 401
    assert [told(answer) for answer in answers] == [told(none)] * len(answers)


async def test_two_authorization_headers_are_refused(office: Office) -> None:
    header = ("Authorization", f"Bearer {office.admin.key.secret}")
    assert (await office.client.get("/v1/teams", headers=[header])).status_code == 200
    assert (await office.client.get("/v1/teams", headers=[header, header])).status_code == 401
    admin_key = ("Authorization", f"Bearer {ADMIN_SECRET}")
    assert (await office.client.get("/v1/teams", headers=[admin_key, header])).status_code == 401


async def test_a_lower_case_scheme_is_taken(office: Office) -> None:
    for scheme in ("bearer", "key", "KEY"):
        headers = {"Authorization": f"{scheme} {office.member.key.secret}"}
        assert (await office.client.get("/v1/keys", headers=headers)).status_code == 200


async def test_a_revoked_key_is_refused_at_once(office: Office) -> None:
    assert await office.may_call(office.member.key.secret)
    answer = await office.call(office.member, "DELETE", f"/v1/keys/{office.member.key_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not await office.may_call(office.member.key.secret)


async def test_a_key_ends_at_the_very_moment_it_expires(office: Office) -> None:
    key = await office.key(office.member.user.id, expires_at=START + timedelta(hours=1))
    office.clock.advance(3599.999)
    assert await office.may_call(key.secret)
    office.clock.advance(0.001)
    assert not await office.may_call(key.secret)


async def test_a_disabled_user_is_refused_and_may_come_back(office: Office) -> None:
    path = f"/v1/users/{office.member.user_id}"
    assert (await office.call(office.admin, "PATCH", path, disabled=True)).json()["disabled_at"] is not None
    assert not await office.may_call(office.member.key.secret)
    assert (await office.call(office.admin, "PATCH", path, disabled=False)).json()["disabled_at"] is None
    assert await office.may_call(office.member.key.secret)


async def test_an_archived_teams_users_are_refused(office: Office) -> None:
    path = f"/v1/teams/team_{office.print.id.hex}"
    assert (await office.call(office.admin, "PATCH", path, archived=True)).status_code == 200
    assert not await office.may_call(office.other_member.key.secret)
    assert not await office.may_call(office.other_lead.key.secret)
    assert await office.may_call(office.member.key.secret)


async def test_a_demoted_admin_is_refused_at_once(office: Office) -> None:
    path = f"/v1/users/{office.admin.user_id}"
    assert (await office.call(ADMIN_SECRET, "PATCH", path, role="member")).status_code == 200
    assert (await office.call(office.admin, "PATCH", path, role="admin")).status_code == 403


@pytest.mark.parametrize("secret", [ADMIN_SECRET + "x", ADMIN_SECRET[:-1], ADMIN_SECRET.upper()])
async def test_nearly_admin_key_is_nobody(office: Office, secret: str) -> None:
    assert not await office.may_call(secret)

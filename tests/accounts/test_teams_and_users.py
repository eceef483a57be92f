"""Teams and users: made, changed, unique, never deleted."""

import asyncio
from typing import Any

import pytest

from app.accounts import teams
from app.accounts.callers import COMMAND_LINE
from app.accounts.shapes import TeamBody
from app.problems import NameTaken

from .office import ADMIN_SECRET, START, Office


async def test_a_team_is_answered_whole(office: Office) -> None:
    answer = await office.call(office.admin, "POST", "/v1/teams", name="Söund 🎬", external_id="cc-1")
    team = answer.json()
    assert answer.status_code == 201
    assert team == {
        "id": team["id"],
        "name": "Söund 🎬",
        "external_id": "cc-1",
        "archived_at": None,
        "created_at": "2026-05-04T12:00:00Z",
        "alert_url": None,
        "alert_shape": None,
        "alert_user_id": None,
    }


async def test_a_user_is_answered_whole(office: Office) -> None:
    team_id = f"team_{office.film.id.hex}"
    body: dict[str, Any] = {
        "name": "Ann",
        "team_id": team_id,
        "email": "Ann@Example.org",
        "role": "finance",
        "external_id": "e-1",
    }
    answer = await office.call(office.admin, "POST", "/v1/users", **body)
    assert answer.status_code == 201
    made = {**body, "email": "ann@example.org", "disabled_at": None, "created_at": "2026-05-04T12:00:00Z"}
    assert answer.json() == {"id": answer.json()["id"], **made}


async def test_a_user_is_a_member_unless_said_otherwise(office: Office) -> None:
    answer = await office.call(office.admin, "POST", "/v1/users", name="A", team_id=f"team_{office.film.id.hex}")
    assert answer.json()["role"] == "member"


async def test_two_users_may_share_a_name(office: Office) -> None:
    body: dict[str, Any] = {"name": "Mia", "team_id": f"team_{office.film.id.hex}"}
    assert (await office.call(office.admin, "POST", "/v1/users", **body)).status_code == 201


async def test_a_patch_changes_what_it_names_and_null_takes_away_what_may_be_missing(office: Office) -> None:
    path = f"/v1/users/{office.member.user_id}"
    await office.call(office.admin, "PATCH", path, email="mia@example.org", external_id="7")
    answer = await office.call(office.admin, "PATCH", path, email=None, role="lead")
    assert (answer.json()["email"], answer.json()["external_id"], answer.json()["role"]) == (None, "7", "lead")
    for field in ("name", "team_id", "role", "disabled"):
        assert (await office.call(office.admin, "PATCH", path, **{field: None})).status_code == 422


async def test_a_user_moves_to_another_team(office: Office) -> None:
    path = f"/v1/users/{office.member.user_id}"
    answer = await office.call(office.admin, "PATCH", path, team_id=f"team_{office.print.id.hex}")
    assert answer.json()["team_id"] == f"team_{office.print.id.hex}"
    seen = await office.call(office.other_lead, "GET", "/v1/keys")
    assert office.member.key_id in {key["id"] for key in seen.json()["data"]}


async def test_nobody_moves_to_a_team_that_is_not_there_or_archived(office: Office) -> None:
    print_id = f"team_{office.print.id.hex}"
    await office.call(office.admin, "PATCH", f"/v1/teams/{print_id}", archived=True)
    for team_id in (print_id, "team_" + "0" * 32):
        moved = await office.call(office.admin, "PATCH", f"/v1/users/{office.member.user_id}", team_id=team_id)
        made = await office.call(office.admin, "POST", "/v1/users", name="x", team_id=team_id)
        for answer in (moved, made):
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/team_id")


async def test_archiving_twice_keeps_the_first_moment(office: Office) -> None:
    path = f"/v1/teams/team_{office.print.id.hex}"
    first = await office.call(office.admin, "PATCH", path, archived=True)
    office.clock.advance(60)
    second = await office.call(office.admin, "PATCH", path, archived=True)
    assert first.json()["archived_at"] == second.json()["archived_at"] == "2026-05-04T12:00:00Z"
    assert (await office.call(office.admin, "PATCH", path, archived=False)).json()["archived_at"] is None


async def test_a_name_taken_says_which_field(office: Office) -> None:
    film, user = f"team_{office.film.id.hex}", f"/v1/users/{office.member.user_id}"
    await office.call(office.admin, "PATCH", f"/v1/teams/{film}", external_id="cc-1")
    await office.call(office.admin, "PATCH", user, email="mia@example.org", external_id="e-1")
    calls: list[tuple[str, str, str, dict[str, Any]]] = [
        ("name", "POST", "/v1/teams", {"name": "Print"}),
        ("name", "PATCH", f"/v1/teams/{film}", {"name": "Print"}),
        ("external_id", "POST", "/v1/teams", {"name": "New", "external_id": "cc-1"}),
        ("email", "POST", "/v1/users", {"name": "A", "team_id": film, "email": "MIA@example.org"}),
        ("external_id", "POST", "/v1/users", {"name": "A", "team_id": film, "external_id": "e-1"}),
        ("email", "PATCH", f"/v1/users/{office.lead.user_id}", {"email": "mia@example.org"}),
    ]
    for field, method, path, body in calls:
        answer = await office.call(office.admin, method, path, **body)
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "name-taken", field)
        assert field.replace("_", " ") in answer.json()["detail"]


async def test_of_ten_who_want_one_name_at_once_one_gets_it(office: Office) -> None:
    async def make() -> None:
        async with office.db.begin() as tx:
            await teams.create_team(tx, TeamBody(name="Race"), actor=COMMAND_LINE, now=START)

    outcomes = await asyncio.gather(*(make() for _ in range(10)), return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is None] == [None]
    assert all(isinstance(outcome, NameTaken) for outcome in outcomes if outcome is not None)


@pytest.mark.parametrize("path", ["/v1/teams", "/v1/users", "/v1/keys", "/v1/audit-log"])
async def test_a_list_is_read_page_by_page_newest_first(office: Office, path: str) -> None:
    for number in range(7):
        office.clock.advance(1)
        await office.somebody(f"N{number}", "member", team=await office.team(f"T{number}"))
    whole = (await office.call(ADMIN_SECRET, "GET", f"{path}?limit=100")).json()
    assert whole["next_cursor"] is None
    ids, cursor = [], ""
    while True:
        page = (await office.call(ADMIN_SECRET, "GET", f"{path}?limit=3{cursor}")).json()
        assert len(page["data"]) == 3 or page["next_cursor"] is None
        ids += [row["id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert ids == sorted(ids, reverse=True) == [row["id"] for row in whole["data"]]


async def test_filters_find_one(office: Office) -> None:
    await office.call(office.admin, "PATCH", f"/v1/users/{office.member.user_id}", email="mia@example.org")
    await office.call(office.admin, "PATCH", f"/v1/teams/team_{office.film.id.hex}", external_id="cc-1")
    for path, name in (
        ("/v1/users?email=MIA@example.org", "Mia"),
        ("/v1/users?role=finance", "Finn"),
        ("/v1/teams?external_id=cc-1", "Film"),
    ):
        assert [row["name"] for row in (await office.call(office.admin, "GET", path)).json()["data"]] == [name]
    keys = await office.call(office.admin, "GET", f"/v1/keys?team_id=team_{office.print.id.hex}")
    assert len(keys.json()["data"]) == 2

"""Who may do what: every role on every route of this room."""

import itertools
import re
from typing import Any, Final

import pytest
from fastapi.routing import APIRoute

from app.accounts.routes import audit_log, keys, teams, users

from .office import ADMIN_SECRET, Office, Somebody, told

WHO: Final = ("member", "finance", "lead", "admin", "ADMIN_KEY")

# Each call is about Mia (a member of Film) and her key; what is answered to each of WHO.
MATRIX: Final[list[tuple[str, str, dict[str, Any], tuple[int, ...]]]] = [
    ("POST", "/v1/teams", {"name": "Sound {who}"}, (403, 403, 403, 201, 201)),
    ("GET", "/v1/teams", {}, (403, 200, 403, 200, 200)),
    ("PATCH", "/v1/teams/{team}", {"name": "Films"}, (403, 403, 403, 200, 200)),
    ("POST", "/v1/users", {"name": "Zoe", "team_id": "{team}"}, (403, 403, 403, 201, 201)),
    ("GET", "/v1/users", {}, (403, 200, 200, 200, 200)),
    ("PATCH", "/v1/users/{user}", {"role": "admin"}, (403, 403, 403, 200, 200)),
    ("POST", "/v1/keys", {"name": "new", "user_id": "{user}"}, (403, 403, 201, 201, 201)),
    ("GET", "/v1/keys", {}, (200, 200, 200, 200, 200)),
    ("PATCH", "/v1/keys/{key}", {"name": "renamed"}, (200, 404, 200, 200, 200)),
    ("DELETE", "/v1/keys/{key}", {}, (204, 404, 204, 204, 204)),
    ("POST", "/v1/keys/{key}/rotate", {}, (200, 404, 200, 200, 200)),
    ("GET", "/v1/audit-log", {}, (403, 403, 403, 200, 200)),
]


def filled(office: Office, text: str, who: str) -> str:
    """The path or body with Mia's ids in it."""
    ids = {"team": f"team_{office.film.id.hex}", "user": office.member.user_id, "key": office.member.key_id, "who": who}
    for name, shown in ids.items():
        text = text.replace("{" + name + "}", shown)
    return text


@pytest.mark.parametrize(("method", "path", "body", "statuses"), MATRIX)
async def test_each_role_may_do_what_the_contract_says(
    office: Office, method: str, path: str, body: dict[str, str], statuses: tuple[int, ...]
) -> None:
    for who, status in zip(WHO, statuses, strict=True):
        caller = ADMIN_SECRET if who == "ADMIN_KEY" else getattr(office, who)
        sent: dict[str, Any] = {name: filled(office, value, who) for name, value in body.items()}
        answer = await office.call(caller, method, filled(office, path, who), **sent)
        assert answer.status_code == status, (who, answer.text)
        if status == 403:
            assert answer.json()["code"] == "role-forbidden"
            assert "admin" in answer.json()["roles"]


def test_no_route_is_missing_from_the_matrix() -> None:
    routes = [route for room in (teams, users, keys, audit_log) for route in room.router.routes]
    known = {(method, route.path) for route in routes if isinstance(route, APIRoute) for method in route.methods or ()}
    assert known == {(method, re.sub(r"{\w+}", "{id}", path)) for method, path, _, _ in MATRIX}


async def test_without_a_key_nothing_is_told(office: Office) -> None:
    for method, path, _, _ in MATRIX:
        answer = await office.client.request(method, path, json={"nonsense": True})
        assert (answer.status_code, answer.json()["code"]) == (401, "key-unknown")


async def test_another_teams_key_is_not_there(office: Office) -> None:
    """The same answer, to the letter, as for an id that never was."""
    path = f"/v1/keys/{office.other_member.key_id}"
    calls = itertools.product(
        (office.member, office.lead, office.finance), (("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"))
    )
    for caller, (method, ending) in calls:
        body: dict[str, Any] = {"name": "x"} if method == "PATCH" else {}
        theirs = await office.call(caller, method, path + ending, **body)
        nobodys = await office.call(caller, method, f"/v1/keys/key_{'0' * 32}" + ending, **body)
        assert (theirs.status_code, theirs.json()["code"]) == (404, "not-found")
        assert told(theirs) == told(nobodys)
    assert await office.may_call(office.other_member.key.secret)


async def test_an_id_that_cannot_be_one_is_not_there_either(office: Office) -> None:
    for garbage in ("x", "key_", "key_" + "g" * 32, "job_" + "0" * 32, "%00", "%ff", "k" * 3000):
        for path in ("/v1/keys/", "/v1/users/", "/v1/teams/"):
            answer = await office.call(ADMIN_SECRET, "PATCH", path + garbage, name="x")
            assert answer.status_code == 404


async def test_each_role_sees_the_keys_it_may(office: Office) -> None:
    film = {office.member, office.lead, office.finance, office.admin}
    everybody = film | {office.other_member, office.other_lead}
    for who, seen in (
        (office.member, {office.member}),
        (office.finance, {office.finance}),
        (office.lead, film),
        (office.other_lead, everybody - film),
        (office.admin, everybody),
    ):
        answer = await office.call(who, "GET", "/v1/keys")
        assert {key["id"] for key in answer.json()["data"]} == {somebody.key_id for somebody in seen}


async def test_a_lead_sees_the_users_of_its_team_alone(office: Office) -> None:
    answer = await office.call(office.other_lead, "GET", "/v1/users")
    assert {user["name"] for user in answer.json()["data"]} == {"Max", "Leo"}
    film = f"/v1/users?team_id=team_{office.film.id.hex}"
    assert (await office.call(office.other_lead, "GET", film)).json()["data"] == []
    assert len((await office.call(office.finance, "GET", film)).json()["data"]) == 4


async def test_a_lead_makes_no_key_in_another_team(office: Office) -> None:
    theirs = await office.call(office.lead, "POST", "/v1/keys", name="x", user_id=office.other_member.user_id)
    nobodys = await office.call(office.lead, "POST", "/v1/keys", name="x", user_id="user_" + "0" * 32)
    assert theirs.status_code == 422
    assert told(theirs) == told(nobodys)
    assert theirs.json()["errors"][0]["pointer"] == "/user_id"


@pytest.mark.parametrize("above", ["finance", "admin"])
async def test_a_lead_never_comes_by_the_power_of_somebody_above(office: Office, above: str) -> None:
    somebody: Somebody = getattr(office, above)
    path = f"/v1/keys/{somebody.key_id}"
    answers = [
        await office.call(office.lead, "POST", "/v1/keys", name="x", user_id=somebody.user_id),
        await office.call(office.lead, "POST", path + "/rotate"),
        await office.call(office.lead, "PATCH", path, name="x"),
        await office.call(office.lead, "DELETE", path),
    ]
    assert [(answer.status_code, answer.json()["roles"]) for answer in answers] == [(403, ["admin"])] * 4
    assert await office.may_call(somebody.key.secret)


async def test_leads_of_one_team_may_help_each_other(office: Office) -> None:
    colleague = await office.somebody("Lou", "lead")
    answer = await office.call(office.lead, "POST", "/v1/keys", name="x", user_id=colleague.user_id)
    assert answer.status_code == 201

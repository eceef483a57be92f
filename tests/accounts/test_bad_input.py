"""Bad input is always the caller's to mend: 4xx, with the place named, and nothing stored."""

import json
from typing import Any, Final

import pytest
from sqlalchemy import func, select

from app.accounts.tables import audit_log

from .office import ADMIN_SECRET, Office

WRONG: Final[list[Any]] = [
    None, 1, 10**400, -1, 1.5, True, [], {}, "", " ", "a ", "a\0b", "a\nb", "\x7f", "\x85", "x" * 10_000,
    "\ud800", ["x"], {"a": {}},
]  # fmt: skip
NO_MOMENT: Final[list[Any]] = [
    1, 1.5, 10**30, True, [], {}, "", "x", "2027-01-01", "2027-01-01T00:00:00", "1800000000", "2027-13-01T00:00:00Z",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999Z", "9999-01-01T00:00:00Z", "2027-01-01T00:00:00+99:99", "2027-01-01T00:00:00Z\0",
    "10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z", "٢٠٢٧-01-01T00:00:00Z", "2027-02-30T00:00:00Z",
]  # fmt: skip
RAW: Final = [
    b"", b"{", b"nul", b"\xff\xfe", b'{"name": NaN}', b'{"name": Infinity}', b'{"name": "\xff"}', b"[" * 100_000,
    b'{"name":' * 50_000, b"null", b"[]", b'"x"', b"1", b'{"name": "\\ud800"}', b"\xef\xbb\xbf{}", b"{}{}",
    b'{"name": 1' + b"0" * 5000 + b"}", b'{"name": "a\\u0000b"}',
]  # fmt: skip
FILTERS: Final = [
    "/v1/users?team_id=x", "/v1/users?role=x", "/v1/users?email=x", "/v1/users?external_id=%00",
    "/v1/teams?external_id=", "/v1/keys?user_id=%ff", "/v1/keys?team_id=team_", "/v1/audit-log?object_id=%00",
    "/v1/audit-log?action=%0a", "/v1/audit-log?since=2026", "/v1/audit-log?until=9999-12-31T23:59:59Z",
    "/v1/audit-log?since=0001-01-01T00:00:00%2B14:00", "/v1/audit-log?since=1800000000",
]  # fmt: skip


async def refused(office: Office, method: str, path: str, body: object) -> list[str]:
    """The pointers of the faults."""
    answer = await office.call(ADMIN_SECRET, method, path, content=json.dumps(body).encode())
    assert answer.status_code in {415, 422}, (answer.status_code, body)
    assert answer.headers["content-type"] == "application/problem+json"
    return [fault.get("pointer", "?") for fault in answer.json().get("errors", [])]


async def count(office: Office) -> int:
    async with office.db.reading() as tx:
        return await tx.scalar(select(func.count()).select_from(audit_log)) or 0


async def test_no_wrong_value_of_any_field_gets_in(office: Office) -> None:
    team_id, user_id = f"team_{office.film.id.hex}", office.member.user_id
    before = await count(office)
    team, user = {"name": "New"}, {"name": "New", "team_id": team_id}
    calls: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
        ("POST", "/v1/teams", team, ("name", "external_id")),
        ("PATCH", f"/v1/teams/{team_id}", {}, ("name", "external_id")),
        ("POST", "/v1/users", user, ("name", "team_id", "email", "role", "external_id")),
        ("PATCH", f"/v1/users/{user_id}", {}, ("name", "team_id", "email", "role", "external_id")),
        ("POST", "/v1/keys", {"name": "x", "user_id": user_id}, ("name", "user_id")),
        ("PATCH", f"/v1/keys/{office.member.key_id}", {}, ("name",)),
    ]
    for method, path, right, fields in calls:
        for field in fields:
            for wrong in WRONG:
                if wrong is None and field in {"external_id", "email"}:
                    continue
                pointers = await refused(office, method, path, {**right, field: wrong})
                assert all(pointer.startswith(f"/{field}") for pointer in pointers)
    assert await count(office) == before


async def test_no_flag_is_bent_into_truth(office: Office) -> None:
    for path, field in (
        (f"/v1/teams/team_{office.film.id.hex}", "archived"),
        (f"/v1/users/{office.member.user_id}", "disabled"),
    ):
        values: list[Any] = [None, 0, 1, "true", "yes", [], {}, 1.0]
        for wrong in values:
            assert await refused(office, "PATCH", path, {field: wrong}) == [f"/{field}"]


async def test_no_expiry_is_guessed(office: Office) -> None:
    for wrong in NO_MOMENT:
        body = {"name": "x", "user_id": office.member.user_id, "expires_at": wrong}
        assert await refused(office, "POST", "/v1/keys", body) == ["/expires_at"], wrong


async def test_the_end_of_the_calendar_is_a_fine_expiry(office: Office) -> None:
    answer = await office.call(
        ADMIN_SECRET,
        "POST",
        "/v1/keys",
        name="x",
        user_id=office.member.user_id,
        expires_at="9998-12-31T23:59:59.999999Z",
    )
    assert (answer.status_code, answer.json()["expires_at"]) == (201, "9998-12-31T23:59:59.999999Z")
    rotated = await office.call(ADMIN_SECRET, "POST", f"/v1/keys/{answer.json()['id']}/rotate")
    assert rotated.status_code == 200


async def test_an_email_has_one_at(office: Office) -> None:
    for email in ("x", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\0", "a@b\n", "a@" + "b" * 400):
        body = {"name": "x", "team_id": f"team_{office.film.id.hex}", "email": email}
        assert await refused(office, "POST", "/v1/users", body) == ["/email"]


async def test_there_are_four_roles(office: Office) -> None:
    for role in ("Admin", "ADMIN", "root", "owner", "admin "):
        body = {"name": "x", "team_id": f"team_{office.film.id.hex}", "role": role}
        assert await refused(office, "POST", "/v1/users", body) == ["/role"]


async def test_grace_is_a_whole_number_of_seconds_up_to_thirty_days(office: Office) -> None:
    values: list[Any] = [-1, 2592001, 10**30, 1.5, 1.0, "60", True, None, [], {}]
    for grace in values:
        path = f"/v1/keys/{office.member.key_id}/rotate"
        assert await refused(office, "POST", path, {"grace_seconds": grace}) == ["/grace_seconds"]
        assert await office.may_call(office.member.key.secret)


async def test_thirty_days_of_grace_are_fine(office: Office) -> None:
    path = f"/v1/keys/{office.member.key_id}/rotate"
    assert (await office.call(ADMIN_SECRET, "POST", path, grace_seconds=2592000)).status_code == 200


async def test_what_is_no_body_is_refused_everywhere(office: Office) -> None:
    for raw in RAW:
        for method, path in (
            ("POST", "/v1/teams"),
            ("PATCH", f"/v1/teams/team_{office.film.id.hex}"),
            ("POST", "/v1/users"),
            ("POST", "/v1/keys"),
            ("POST", f"/v1/keys/{office.member.key_id}/rotate"),
        ):
            answer = await office.call(ADMIN_SECRET, method, path, content=raw)
            assert answer.status_code in {415, 422}, raw[:20]


async def test_a_body_that_is_not_called_json_is_refused(office: Office) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_SECRET}", "Content-Type": "text/plain"}
    answer = await office.client.post("/v1/teams", content=b'{"name": "x"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "not-json")


async def test_every_fault_is_named_at_once_and_no_value_is_echoed(office: Office) -> None:
    body = {"name": "canary\0", "team_id": "canary", "role": "canary", "canary": 1}
    answer = await office.call(ADMIN_SECRET, "POST", "/v1/users", content=json.dumps(body).encode())
    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert pointers == {"/name", "/team_id", "/role", "/canary"}
    assert "canary" not in answer.text.replace("/canary", "")


@pytest.mark.parametrize("path", ["/v1/teams", "/v1/users", "/v1/keys", "/v1/audit-log"])
async def test_a_list_refuses_what_it_does_not_know(office: Office, path: str) -> None:
    prefix = {"/v1/audit-log": "audit"}.get(path, path[4:-1])
    for query, parameter in (
        ("cursor=garbage", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        (f"cursor=job_{'0' * 32}", "cursor"),
        (f"cursor={prefix}_{'G' * 32}", "cursor"),
        (f"cursor={prefix}_" + "0" * 300, "cursor"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.5", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=NaN", "limit"),
        ("nonsense=1", "nonsense"),
        ("Limit=5", "Limit"),
    ):
        answer = await office.call(ADMIN_SECRET, "GET", f"{path}?{query}")
        assert answer.status_code == 422, (query, answer.text)
        assert [fault["parameter"] for fault in answer.json()["errors"]] == [parameter]
    for end in ("0" * 32, "f" * 32):
        assert (await office.call(ADMIN_SECRET, "GET", f"{path}?cursor={prefix}_{end}")).status_code == 200


async def test_no_filter_is_guessed(office: Office) -> None:
    for query in FILTERS:
        answer = await office.call(ADMIN_SECRET, "GET", query)
        assert answer.status_code == 422
        assert "parameter" in answer.json()["errors"][0]

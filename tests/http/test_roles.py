"""Owners and roles: every route of `/openapi.json` with every kind of caller. A new route needs a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.gateway import ADMIN, Gateway

from .office import NOBODY, Office, fill, operations
from .world import IMAGE, NOBODYS, PNG, nothing_written, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

WHO = ("mia", "colleague", "lead", "other_lead", "stranger", "finance", "admin", "ADMIN_KEY")


@dataclass(frozen=True)
class Line:
    """What each of WHO is answered, in that order; what nobody is; and the body."""

    answers: tuple[int, ...]
    body: Callable[[Office], dict[str, Any] | None] = lambda _: None
    nobody: int = 401


def everyone(status: int, admin_key: int | None = None) -> tuple[int, ...]:
    return (status,) * 7 + (status if admin_key is None else admin_key,)


def admins(status: int) -> tuple[int, ...]:
    return (403,) * 6 + (status, status)


PROMPT = Line(everyone(202, 403), lambda _: {"prompt": "x"})
#                     mia  coll lead oth. str. fin. adm. ADMIN_KEY
SEES_JOB: tuple[int, ...] = (200, 404, 200, 404, 404, 200, 200, 403)
OWNS_KEY: tuple[int, ...] = (200, 404, 200, 404, 404, 404, 200, 200)
KEEPS_QUOTA: tuple[int, ...] = (403, 403, 200, 404, 403, 403, 200, 200)

TABLE: dict[str, Line] = {
    "submit_text_to_video": PROMPT,
    "submit_image_to_video": Line(everyone(202, 403), lambda _: {"prompt": "x", "image_url": "https://example.com/a"}),
    "submit_as_to_fal": Line(everyone(200, 403), lambda _: {"prompt": "x"}),
    "estimate_text_to_video": Line(everyone(200, 403), lambda _: {"prompt": "x"}),
    "estimate_image_to_video": Line(everyone(200, 403), lambda _: {"prompt": "x", "image_url": "https://example.com/a"}),
    "create_file": Line(everyone(415, 403)),  # as far as a body that is none of a file's comes
    "create_token": Line(everyone(201, 403), lambda _: {"scope": "read"}),
    "get_job": Line(SEES_JOB),
    "stream_job_events": Line(SEES_JOB),
    "list_job_entries": Line(SEES_JOB),
    "list_job_logs": Line((200, 404, 200, 404, 404, 403, 200, 403)),
    "get_job_content": Line(tuple(409 if status == 200 else status for status in SEES_JOB)),  # it has not ended
    "cancel_job": Line((200, 404, 200, 404, 404, 403, 200, 403)),
    "erase_job_payload": Line((204, 404, 204, 404, 404, 403, 204, 403)),
    "list_jobs": Line(everyone(200, 403)),
    "create_adjustment": Line((403,) * 5 + (201,) * 3, lambda _: {"amount_usd": "0.10", "note": "x"}),
    "resolve_job": Line(admins(200), lambda _: {"outcome": "void", "note": "x"}),
    "get_me": Line(everyone(200, 403)),
    "get_webhook_secret": Line(everyone(200, 403)),
    "rotate_webhook_secret": Line(everyone(200, 403)),
    "list_deliveries": Line(everyone(200)),
    "get_webhook_keys": Line(everyone(200), nobody=200),
    "redeliver_delivery": Line((202, 404, 202, 404, 404, 404, 202, 202)),
    "list_models": Line(everyone(200)),
    "create_quota": Line(
        (403, 403, 201, 422, 403, 403, 201, 201),
        lambda office: {"scope": "user", "scope_id": office.fresh.user_id, "metric": "usd", "window": "day",
        "maximum": 1},
    ),
    "list_quotas": Line(everyone(200)),
    "change_quota": Line(KEEPS_QUOTA, lambda _: {"maximum": 2}),
    "delete_quota": Line(tuple(204 if status == 200 else status for status in KEEPS_QUOTA)),
    "create_price": Line(admins(201), lambda office: office.price()),
    "list_prices": Line((403, 403, 403, 403, 403, 200, 200, 200)),
    "delete_price": Line(admins(204)),
    "check_prices": Line((403, 403, 403, 403, 403, 503, 503, 503)),  # no fal is there to ask
    "simulate_price": Line((403, 403, 403, 403, 403, 200, 200, 200), lambda office: office.price()),
    "create_team": Line(admins(201), lambda office: {"name": f"made {next(office.numbers)}"}),
    "list_teams": Line((403, 403, 403, 403, 403, 200, 200, 200)),
    "change_team": Line(admins(200), lambda office: {"name": f"made {next(office.numbers)}"}),
    "create_user": Line(admins(201), lambda office: {"name": "x", "team_id": office.mia.team_id}),
    "list_users": Line((403, 403, 200, 200, 403, 200, 200, 200)),
    "change_user": Line(admins(200), lambda _: {"name": "x"}),
    "create_key": Line((403, 403, 201, 422, 403, 403, 201, 201), lambda office: {"name": "x",
    "user_id": office.mia.user_id}),
    "list_keys": Line(everyone(200)),
    "change_key": Line(OWNS_KEY, lambda _: {"name": "x"}),
    "revoke_key": Line(tuple(204 if status == 200 else status for status in OWNS_KEY)),
    "rotate_key": Line(OWNS_KEY, lambda _: {}),
    "create_freeze": Line(
        (403, 403, 201, 422, 403, 403, 201, 201),
        lambda office: {"scope": "user", "scope_id": office.fresh.user_id, "note": "x"},
    ),
    "list_freezes": Line(everyone(200)),
    "lift_freeze": Line((403, 403, 403, 404, 403, 403, 204, 204)),  # an admin has made it
    "close_month": Line((403,) * 5 + (409,) * 3),  # nothing was booked in it
    "reopen_month": Line(admins(409), lambda _: {"note": "x"}),
    "list_months": Line((403,) * 5 + (200,) * 3),
    "list_audit_log": Line(admins(200)),
    "get_spend_report": Line(everyone(200)),
    "get_refusals_report": Line(everyone(200)),
    "get_reconciliation_report": Line((403, 403, 403, 403, 403, 200, 200, 200)),
    "get_jobs_csv": Line(everyone(200)),
    "get_focus_csv": Line(everyone(200)),
    "get_live": Line(everyone(200), nobody=200),
    "get_ready": Line(everyone(200), nobody=200),
    "get_metrics": Line(everyone(200), nobody=200),
}  # fmt: skip


async def test_every_route_has_its_line(gateway: Gateway) -> None:
    assert set(await operations(gateway)) == set(TABLE)
    assert all(len(line.answers) == len(WHO) for line in TABLE.values())


@pytest.mark.parametrize("operation", list(TABLE))
async def test_each_role_may_what_its_line_says(gateway: Gateway, office: Office, operation: str) -> None:
    method, template = (await operations(gateway))[operation]
    line = TABLE[operation]
    for who, status in zip((*WHO, NOBODY), (*line.answers, line.nobody), strict=True):
        office.fresh = (
            await gateway.make_person(team_id=office.mia.team_id)
            if operation in {"create_quota", "create_freeze"}
            else office.mia
        )
        path = await fill(office, operation, template)
        answer = await office.call(who, method, path, line.body(office))
        assert answer.status_code == status, (who, answer.text)
        if status == 403 and path.startswith("/fal/"):
            assert answer.json()["error_type"] == "role_forbidden"
        elif status == 403:
            refusal(answer, 403, "role-forbidden")
        if status == 404:
            refusal(answer, 404, "not-found")


async def test_what_is_not_yours_is_answered_like_what_is_not_there(gateway: Gateway, office: Office) -> None:
    """To the letter, and it stays as it was."""
    with_ids = {
        name: call
        for name, call in (await operations(gateway)).items()
        if "{" in call[1] and "{endpoint}" not in call[1]
    }
    assert len(with_ids) >= 13
    for operation, (method, template) in with_ids.items():
        path = await fill(office, operation, template)
        made = path.removeprefix(template.partition("{")[0]).partition("/")[0]
        absent = path.replace(made, made.partition("_")[0] + "_" + NOBODYS)
        for who in ("stranger", "other_lead", "colleague"):
            async with nothing_written(gateway):
                theirs = await office.call(who, method, path, TABLE[operation].body(office))
                nobodys = await office.call(who, method, absent, TABLE[operation].body(office))
            assert theirs.status_code in {403, 404}, (operation, who)
            assert [told(theirs)] == [told(nobodys)], (operation, who)


def told(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    return answer.status_code, {name: value for name, value in answer.json().items() if name != "request_id"}


async def test_finance_reads_jobs_of_all_with_their_inputs_hidden(gateway: Gateway, office: Office) -> None:
    body = {"prompt": "a secret film", "image_url": PNG}
    job = (await gateway.client.post(IMAGE, json=body, headers=office.mia.headers)).json()
    await gateway.client.post(f"/v1/jobs/{job['id']}/cancel", headers=office.mia.headers)
    finance = office.people["finance"]
    hidden = [
        await gateway.client.get(f"/v1/jobs/{job['id']}", headers=finance.headers),
        await gateway.client.get(f"/v1/jobs/{job['id']}", headers=finance.headers | {"Prefer": "wait=1"}),
        await gateway.client.get(f"/v1/jobs?user_id={office.mia.user_id}&limit=1", headers=finance.headers),
        await gateway.client.get(f"/v1/jobs/{job['id']}/events", headers=finance.headers),
        await gateway.client.get(f"/v1/jobs/{job['id']}/entries", headers=finance.headers),
        await gateway.client.post(f"/v1/jobs/{job['id']}/cancel", headers=finance.headers),
    ]
    assert [answer.status_code for answer in hidden] == [200, 200, 200, 200, 200, 403]
    assert hidden[0].json()["input"] is None
    assert hidden[2].json()["data"][0]["input"] is None
    assert not [answer.text for answer in hidden if "secret film" in answer.text or "sha256" in answer.text]
    own = (await gateway.submit(finance, "finance's own")).json()
    assert (await gateway.job(finance, own["id"]))["input"]["prompt"] == "finance's own"
    listed = (await gateway.client.get("/v1/jobs?limit=1", headers=finance.headers)).json()
    assert listed["data"][0]["input"]["prompt"] == "finance's own"


async def test_a_lead_sees_the_jobs_of_its_team_whole(gateway: Gateway, office: Office) -> None:
    lead, other = office.people["lead"], office.people["other_lead"]
    job = (await gateway.submit(office.mia, "for the lead")).json()
    assert await gateway.job(lead, job["id"]) == job
    seen = (await gateway.client.get("/v1/jobs?limit=100", headers=lead.headers)).json()["data"]
    assert job in seen
    assert {row["team_id"] for row in seen} == {lead.team_id}
    others = (await gateway.client.get("/v1/jobs?limit=100", headers=other.headers)).json()["data"]
    assert office.mia.team_id not in {row["team_id"] for row in others}


async def test_an_admin_sees_every_job(gateway: Gateway, office: Office) -> None:
    job = (await gateway.submit(office.mia)).json()
    seen = (await gateway.client.get("/v1/jobs?limit=1", headers=office.people["admin"].headers)).json()
    assert seen["data"] == [job]


async def test_who_is_demoted_sees_and_may_less_at_once(gateway: Gateway) -> None:
    lead = await gateway.make_person("lead")
    mia = await gateway.make_person(team_id=lead.team_id)
    job_id = (await gateway.submit(mia)).json()["id"]
    path = f"/v1/jobs/{job_id}"
    assert (await gateway.client.get(path, headers=lead.headers)).status_code == 200
    await gateway.admin("PATCH", f"/v1/users/{lead.user_id}", role="member")
    refusal(await gateway.client.get(path, headers=lead.headers), 404, "not-found")
    refusal(await gateway.client.get("/v1/users", headers=lead.headers), 403, "role-forbidden")


async def test_each_role_sees_the_quotas_that_could_apply_to_whom_it_sees(gateway: Gateway, office: Office) -> None:
    mine = await gateway.set_quota(100, "jobs", "week", scope="user", scope_id=office.mia.user_id)
    default = await gateway.set_quota(10**9, "jobs", "week", scope="user")
    team = await gateway.set_quota(100, "jobs", "week", scope="team", scope_id=office.mia.team_id)
    other = await gateway.set_quota(100, "jobs", "week", scope="user", scope_id=office.people["stranger"].user_id)
    try:
        for who, seen in (
            ("mia", {mine, default, team}), ("colleague", {default, team}), ("lead", {mine, default, team}),
            ("other_lead", {default}), ("stranger", {default, other}), ("finance", {mine, default, team, other}),
            ("admin", {mine, default, team, other}), ("ADMIN_KEY", {mine, default, team, other}),
        ):  # fmt: skip
            page = await office.call(who, "GET", "/v1/quotas?metric=jobs&window=week&limit=100", None)
            listed = {quota["id"] for quota in page.json()["data"]}
            assert listed & {mine, default, team, other} == seen, who
    finally:
        for quota in (mine, default, team, other):  # they would be used up by the tests after this one
            await gateway.client.delete(f"/v1/quotas/{quota}", headers=ADMIN)


async def test_a_lead_keeps_quotas_of_its_own_people_and_keys_only(gateway: Gateway, office: Office) -> None:
    stranger = office.people["stranger"]
    lead = office.people["lead"].headers
    for scope, scope_id, status in (
        ("user", office.mia.user_id, 201), ("key", office.mia.key_id, 201), ("team", office.mia.team_id, 403),
        ("organization", None, 403), ("user", None, 403), ("key", None, 403), ("end_user", "42", 403), ("end_user",
        None, 403),
        ("user", stranger.user_id, 422), ("key", stranger.key_id, 422), ("team", stranger.team_id, 403),
    ):  # fmt: skip
        body = {"scope": scope, "scope_id": scope_id, "metric": "seconds", "window": "lifetime", "maximum": 10**6}
        answer = await gateway.client.post("/v1/quotas", json=body, headers=lead)
        assert answer.status_code == status, (scope, scope_id, answer.text)


async def test_a_lead_cannot_learn_by_a_quota_who_is_in_another_team(gateway: Gateway, office: Office) -> None:
    stranger, lead = office.people["stranger"], office.people["lead"].headers
    for scope, theirs in (("user", stranger.user_id), ("key", stranger.key_id), ("team", stranger.team_id)):
        body = {"scope": scope, "metric": "usd", "window": "hour", "maximum": 1}
        answers = [
            await gateway.client.post("/v1/quotas", json=body | {"scope_id": scope_id}, headers=lead)
            for scope_id in (theirs, f"{scope}_{NOBODYS}")
        ]
        assert told(answers[0]) == told(answers[1])

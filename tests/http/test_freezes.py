"""Freezes: nobody they cover has a job accepted or sent, by any route and at any replica; all else goes on."""

import asyncio

import pytest

from tests.gateway import ADMIN, Gateway, Person, run_gateway

from .world import NOBODYS, TEXT, TEXT_ENDPOINT, faults, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def freeze(gateway: Gateway, scope: str, scope_id: str | None = None, note: str = "a loop") -> str:
    body = {"scope": scope, "note": note} | ({"scope_id": scope_id} if scope_id else {})
    return str((await gateway.admin("POST", "/v1/freeze", **body))["id"])


async def lift(gateway: Gateway, freeze_id: str, who: dict[str, str] = ADMIN) -> int:
    return (await gateway.client.delete(f"/v1/freezes/{freeze_id}", headers=who)).status_code


def ids_of(person: Person) -> dict[str, str | None]:
    return {"key": person.key_id, "user": person.user_id, "team": person.team_id, "organization": None}


@pytest.mark.parametrize("scope", ["key", "user", "team", "organization"])
async def test_each_scope_refuses_whom_it_covers_and_nobody_else(gateway: Gateway, ann: Person, scope: str) -> None:
    other = await gateway.make_person()
    made = await freeze(gateway, scope, ids_of(ann)[scope], "300 videos")
    try:
        async with nothing_written(gateway):
            told = refusal(await gateway.submit(ann), 403, "frozen")
        assert [(one["id"], one["scope"], one["note"], one["by"]) for one in told["freezes"]] == [
            (made, scope, "300 videos", "ADMIN_KEY")
        ]
        assert told["freezes"][0]["created_at"].endswith("Z")
        assert "ADMIN_KEY" in told["detail"]
        assert "300 videos" in told["detail"]
        assert (await gateway.submit(other)).status_code == (403 if scope == "organization" else 202)
        assert (await gateway.client.get("/v1/me", headers=ann.headers)).status_code == 200
    finally:
        assert await lift(gateway, made) == 204
    assert (await gateway.submit(ann)).status_code == 202
    assert await lift(gateway, made) == 204, "twice changes nothing"


async def test_every_way_of_submitting_is_closed_and_no_client_of_fals_repeats_it(
    gateway: Gateway, ann: Person
) -> None:
    token = await gateway.client.post("/v1/tokens", json={"scope": "submit"}, headers=ann.headers)
    key = {"Authorization": f"Key {ann.secret}"}
    made = await freeze(gateway, "user", ann.user_id)
    body = {"prompt": "a boat"}
    target = {"x-fal-target-url": f"https://queue.fal.run/{TEXT_ENDPOINT}"}
    by_fal = [
        await gateway.client.post(f"/fal/{TEXT_ENDPOINT}", json=body, headers=key),
        await gateway.client.post("/fal/proxy", json=body, headers=key | target),
        await gateway.client.post(
            "/fal/proxy", json=body, headers=key | {"x-fal-target-url": f"https://fal.run/{TEXT_ENDPOINT}"}
        ),
    ]
    for answer in by_fal:
        told = answer.json()
        assert (answer.status_code, told["error_type"]) == (403, "frozen"), answer.text
        assert answer.headers["x-fal-error-type"] == "frozen"
        assert told["message"] == told["detail"]
        assert told["freezes"][0]["id"] == made
    by_token = {"Authorization": f"Bearer {token.json()['token']}"}
    refusal(await gateway.client.post(TEXT, json=body, headers=by_token), 403, "frozen")
    assert await lift(gateway, made) == 204


async def test_an_estimate_says_that_it_would_not_be_accepted_and_by_whom(gateway: Gateway, ann: Person) -> None:
    made = await freeze(gateway, "team", ann.team_id, "month's end")
    answer = await gateway.client.post(f"{TEXT}/estimate", json={"prompt": "x"}, headers=ann.headers)
    told = answer.json()
    assert (told["allowed"], told["quoted_usd"], told["quotas"]) == (False, "1.40", [])
    assert [(one["id"], one["note"]) for one in told["freezes"]] == [(made, "month's end")]
    (await schema_of(gateway, "Estimate")).validate(told)
    assert await lift(gateway, made) == 204


async def test_a_repeat_of_an_accepted_job_is_still_answered(gateway: Gateway, ann: Person) -> None:
    key = {"Idempotency-Key": "k"}
    job = (await gateway.submit(ann, headers=key)).json()
    made = await freeze(gateway, "key", ann.key_id)
    again = await gateway.submit(ann, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, job["id"])
    assert again.headers["idempotent-replayed"] == "true"
    assert (await gateway.client.post(f"/v1/jobs/{job['id']}/cancel", headers=ann.headers)).status_code == 200
    assert await lift(gateway, made) == 204


async def test_of_a_group_that_is_accepted_together_only_the_frozen_are_refused(gateway: Gateway) -> None:
    people = [await gateway.make_person() for _ in range(4)]
    frozen = [await freeze(gateway, "user", person.user_id) for person in people[:2]]
    answers = await asyncio.gather(*(gateway.submit(person) for person in people * 4))
    assert [answer.status_code for answer in answers] == [403, 403, 202, 202] * 4
    for made in frozen:
        assert await lift(gateway, made) == 204


async def test_another_replica_knows_at_once(gateway: Gateway, ann: Person) -> None:
    async with run_gateway(gateway.wiring.settings, work=False) as twin:
        assert (await twin.submit(ann)).status_code == 202
        made = await freeze(gateway, "user", ann.user_id)
        refusal(await twin.submit(ann), 403, "frozen")
        assert await lift(twin, made) == 204
        assert (await gateway.submit(ann)).status_code == 202


async def test_a_freeze_is_answered_whole_and_stands_in_the_audit_log(gateway: Gateway, ann: Person) -> None:
    admin = await gateway.make_person("admin")
    body = {"scope": "user", "scope_id": ann.user_id, "note": "a loop"}
    answer = await gateway.client.post("/v1/freeze", json=body, headers=admin.headers)
    made = answer.json()
    by = f"{admin.user_id}/{admin.key_id}"
    assert answer.status_code == 201
    (await schema_of(gateway, "Freeze")).validate(made)
    assert {**body, "by": by, "lifted_at": None, "lifted_by": None}.items() <= made.items()
    again = refusal(await gateway.client.post("/v1/freeze", json=body, headers=ADMIN), 409, "already-frozen")
    assert again["freeze_id"] == made["id"]
    assert await lift(gateway, made["id"], admin.headers) == 204
    log = (await gateway.client.get(f"/v1/audit-log?object_id={ann.user_id}&limit=2", headers=ADMIN)).json()["data"]
    assert [(one["action"], one["actor"]) for one in log] == [("freeze.lifted", by), ("freeze.created", by)]
    assert log[0]["after"]["lifted_by"] == by
    assert log[1]["after"]["note"] == "a loop"


async def test_twenty_freezes_at_once_make_one(gateway: Gateway, ann: Person) -> None:
    body = {"scope": "user", "scope_id": ann.user_id, "note": "x"}
    answers = await asyncio.gather(*(gateway.client.post("/v1/freeze", json=body, headers=ADMIN) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    (made,) = [answer.json()["id"] for answer in answers if answer.is_success]
    assert {answer.json().get("freeze_id", made) for answer in answers} == {made}
    assert await lift(gateway, made) == 204


async def test_a_lead_lifts_what_leads_froze_of_its_team_and_nothing_of_an_admins(gateway: Gateway) -> None:
    lead = await gateway.make_person("lead")
    member, stranger = await gateway.make_person(team_id=lead.team_id), await gateway.make_person()
    post = gateway.client.post
    mine = await post("/v1/freeze", json={"scope": "key", "scope_id": member.key_id, "note": "x"}, headers=lead.headers)
    theirs = await freeze(gateway, "user", member.user_id)
    team = await freeze(gateway, "team", lead.team_id)
    others = await freeze(gateway, "user", stranger.user_id)
    for body in ({"scope": "team", "scope_id": lead.team_id}, {"scope": "organization"}):
        refusal(await post("/v1/freeze", json={**body, "note": "x"}, headers=lead.headers), 403, "role-forbidden")
    listed = await gateway.client.get("/v1/freezes?lifted=false", headers=lead.headers)
    assert {one["id"] for one in listed.json()["data"]} == {mine.json()["id"], theirs, team}
    own = await gateway.client.get("/v1/freezes?scope=key&lifted=false", headers=member.headers)
    assert [one["id"] for one in own.json()["data"]] == [mine.json()["id"]]
    assert [await lift(gateway, one, lead.headers) for one in (theirs, team, others)] == [403, 403, 404]
    assert await lift(gateway, mine.json()["id"], lead.headers) == 204
    assert [await lift(gateway, one) for one in (theirs, team, others)] == [204, 204, 204]
    past = await gateway.client.get("/v1/freezes?lifted=true&limit=1", headers=ADMIN)
    assert past.json()["data"][0]["lifted_by"] == "ADMIN_KEY"


async def test_bad_freezes_are_refused(gateway: Gateway, ann: Person) -> None:
    for body, pointer in (
        ({"scope": "user", "note": "x"}, "/scope_id"),
        ({"scope": "user", "scope_id": f"user_{NOBODYS}", "note": "x"}, "/scope_id"),
        ({"scope": "user", "scope_id": ann.team_id, "note": "x"}, "/scope_id"),
        ({"scope": "organization", "scope_id": ann.team_id, "note": "x"}, "/scope_id"),
        ({"scope": "end_user", "scope_id": "42", "note": "x"}, "/scope"),
        ({"scope": "user", "scope_id": ann.user_id}, "/note"),
        ({"scope": "user", "scope_id": ann.user_id, "note": ""}, "/note"),
        ({"scope": "user", "scope_id": ann.user_id, "note": "a\0b"}, "/note"),
    ):
        assert set(faults(await gateway.client.post("/v1/freeze", json=body, headers=ADMIN))) == {pointer}, body

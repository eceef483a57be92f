"""Tokens over HTTP: a key makes them, a browser uses them, and they open what their grant says and nothing beside."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from app.jobs.reads import wait
from app.jobs.reads.seats import Seats
from app.jobs.reads.wait import asked_now
from tests.conftest import settings_for
from tests.gateway import ADMIN, Gateway, Person, run_gateway
from tests.jobs.hand import until

from .conftest import fresh_database
from .office import fill, operations
from .world import IMAGE, NOBODYS, TEXT, faults, nothing_written, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

VISITOR = "visitor 42"
TAKE_TOKENS = {
    "submit_text_to_video", "submit_image_to_video", "estimate_text_to_video", "estimate_image_to_video", "get_job",
    "stream_job_events", "cancel_job", "list_jobs", "create_file", "list_job_logs",
    "get_job_content",
}  # fmt: skip
ASK_FOR_NOTHING = {"get_live", "get_ready", "get_metrics"}


async def make(gateway: Gateway, person: Person, **body: Any) -> dict[str, Any]:
    answer = await gateway.client.post("/v1/tokens", json={"scope": "submit", **body}, headers=person.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def bearer(gateway: Gateway, person: Person, **body: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {(await make(gateway, person, **body))['token']}"}


async def get(gateway: Gateway, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return await gateway.client.get(path, headers=headers)


async def test_a_key_makes_a_token_and_the_answer_says_what_it_opens(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann, end_user=VISITOR)).json()["id"]
    async with nothing_written(gateway):
        made = await make(gateway, ann)
        whole = await make(gateway, ann, scope="read", end_user=VISITOR, job_id=job_id, lifetime_seconds=3600)
    assert made.keys() == whole.keys() == {"token", "scope", "end_user", "job_id", "expires_at"}
    assert (made["scope"], made["end_user"], made["job_id"]) == ("submit", None, None)
    assert (whole["scope"], whole["end_user"], whole["job_id"]) == ("read", VISITOR, job_id)
    now = gateway.wiring.clock()
    for one, seconds in ((made, 600), (whole, 3600)):
        left = datetime.fromisoformat(one["expires_at"]) - now
        assert timedelta(seconds=seconds - 60) < left <= timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, {"/scope"}),
        ({"scope": "admin"}, {"/scope"}),
        ({"scope": "content"}, {"/scope"}),
        ({"scope": "read", "lifetime_seconds": 0}, {"/lifetime_seconds"}),
        ({"scope": "read", "lifetime_seconds": 86_401}, {"/lifetime_seconds"}),
        ({"scope": "read", "lifetime_seconds": "600"}, {"/lifetime_seconds"}),
        ({"scope": "read", "end_user": ""}, {"/end_user"}),
        ({"scope": "read", "end_user": "x" * 129}, {"/end_user"}),
        ({"scope": "read", "end_user": "x\0"}, {"/end_user"}),
        ({"scope": "read", "job_id": "job_1"}, {"/job_id"}),
        ({"scope": "read", "user_id": "x"}, {"/user_id"}),
        (
            {"scope": "submit", "job_id": f"job_{NOBODYS}", "lifetime_seconds": 3601},
            {"/scope", "/lifetime_seconds"},
        ),
    ],
)
async def test_what_a_token_cannot_be_is_named(
    gateway: Gateway, ann: Person, body: dict[str, Any], where: set[str]
) -> None:
    answer = await gateway.client.post("/v1/tokens", json=body, headers=ann.headers)
    assert faults(answer).keys() == where


async def test_half_a_character_is_no_end_user(gateway: Gateway, ann: Person) -> None:
    headers = ann.headers | {"Content-Type": "application/json"}
    answer = await gateway.client.post(
        "/v1/tokens", content=b'{"scope": "read", "end_user": "\\ud800"}', headers=headers
    )
    refusal(answer, 415, "not-json")


async def test_only_a_job_of_ones_own_gets_a_token(gateway: Gateway) -> None:
    lead = await gateway.make_person("lead")
    mia = await gateway.make_person(team_id=lead.team_id)
    job_id = (await gateway.submit(mia, end_user=VISITOR)).json()["id"]
    for person, body in (
        (lead, {"job_id": job_id}),
        (await gateway.make_person("admin"), {"job_id": job_id}),
        (await gateway.make_person(), {"job_id": job_id}),
        (mia, {"job_id": f"job_{NOBODYS}"}),
        (mia, {"job_id": job_id, "end_user": "another visitor"}),
    ):
        answer = await gateway.client.post("/v1/tokens", json={"scope": "read", **body}, headers=person.headers)
        refusal(answer, 404, "not-found")
    assert await make(gateway, mia, scope="read", job_id=job_id)


async def test_nobody_but_a_key_makes_tokens(gateway: Gateway, ann: Person) -> None:
    body = {"scope": "read"}
    refusal(await gateway.client.post("/v1/tokens", json=body, headers=ADMIN), 403, "role-forbidden")
    refusal(await gateway.client.post("/v1/tokens", json=body), 401, "key-unknown")
    token = await bearer(gateway, ann)
    refused = refusal(await gateway.client.post("/v1/tokens", json=body, headers=token), 401, "token-unknown")
    assert "no token opens this" in refused["detail"]


async def test_a_token_opens_routes_of_jobs_and_every_other_one_says_so(gateway: Gateway) -> None:
    admin = await gateway.make_person("admin")
    office = _Office(gateway, admin)
    headers = await bearer(gateway, admin)
    for operation, (method, template) in (await operations(gateway)).items():
        if operation in ASK_FOR_NOTHING or template.startswith(("/fal/", "/.well-known/")):
            continue
        path = await fill(office, operation, template)  # type: ignore[arg-type]
        answer = await gateway.client.request(method, path, json={"prompt": "x"}, headers=headers)
        if operation in TAKE_TOKENS:
            assert answer.status_code in {200, 202, 409, 415, 422}, (operation, answer.text)
        else:
            problem = refusal(answer, 401, "token-unknown")
            assert "no token opens this" in problem["detail"], operation
    assert (await operations(gateway)).keys() >= TAKE_TOKENS


async def test_the_docs_offer_a_token_where_one_opens(gateway: Gateway) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    routes = [operation for path in document["paths"].values() for operation in path.values()]
    offered = {route["operationId"] for route in routes if {"token": []} in route.get("security", [])}
    assert offered == TAKE_TOKENS | {"submit_as_to_fal"}


@pytest.mark.parametrize(("path", "body"), [("/v1/tokens", "TokenBody"), ("/v1/quotas", "QuotaBody")])
async def test_the_example_of_the_docs_can_be_sent(path: str, body: str, gateway: Gateway) -> None:
    admin = await gateway.make_person("admin")
    schemas = (await gateway.client.get("/openapi.json")).json()["components"]["schemas"]
    (example,) = schemas[body]["examples"]
    answer = await gateway.client.post(path, json=example, headers=admin.headers)
    assert answer.status_code == 201, answer.text
    if "id" in answer.json():
        assert (await gateway.client.delete(f"{path}/{answer.json()['id']}", headers=admin.headers)).status_code == 204


class _Office:
    """Whose things every operation reaches for: a job of this person's, or nothing."""

    def __init__(self, gateway: Gateway, person: Person) -> None:
        self._gateway, self._person = gateway, person

    async def make(self, operation: str) -> str:
        made = (await self._gateway.submit(self._person)).json()["id"]
        if operation == "stream_job_events":
            await self._gateway.client.post(f"/v1/jobs/{made}/cancel", headers=self._person.headers)
        return str(made)


async def test_what_only_reads_neither_submits_nor_cancels(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    reads = await bearer(gateway, ann, scope="read")
    of_job = await bearer(gateway, ann, scope="read", job_id=job_id)
    async with nothing_written(gateway):
        for path in (TEXT, IMAGE, f"{TEXT}/estimate", f"{IMAGE}/estimate", f"/v1/jobs/{job_id}/cancel"):
            answer = await gateway.client.post(path, json={"prompt": "x"}, headers=reads)
            refusal(answer, 403, "token-forbidden")
        refusal(await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=of_job), 403, "token-forbidden")
        refusal(await gateway.client.post(TEXT, json={"prompt": "x"}, headers=of_job), 401, "token-unknown")
    for headers in (reads, of_job):
        assert (await get(gateway, f"/v1/jobs/{job_id}", headers)).json()["id"] == job_id
    assert (await get(gateway, "/v1/jobs", reads)).json()["data"][0]["id"] == job_id
    refusal(await get(gateway, "/v1/jobs", of_job), 401, "token-unknown")


async def test_the_end_user_of_a_token_stands_on_its_jobs_and_on_no_others(gateway: Gateway, ann: Person) -> None:
    ours, theirs = await bearer(gateway, ann, end_user=VISITOR), await bearer(gateway, ann, end_user="b")
    everything = await bearer(gateway, ann)
    job = (await gateway.client.post(TEXT, json={"prompt": "x"}, headers=ours)).json()
    assert (job["end_user"], job["user_id"], job["key_id"]) == (VISITOR, ann.user_id, ann.key_id)
    for given in (None, VISITOR):
        named = await gateway.client.post(TEXT, json={"prompt": "x", "end_user": given}, headers=ours)
        assert named.json()["end_user"] == VISITOR
    async with nothing_written(gateway):
        others: tuple[object, ...] = ("b", "", 3, [VISITOR], {}, VISITOR.upper())
        for other in others:
            answer = await gateway.client.post(TEXT, json={"prompt": "x", "end_user": other}, headers=ours)
            assert "/end_user" in faults(answer)
            answer = await gateway.client.post(
                f"{TEXT}/estimate", json={"prompt": "x", "end_user": other}, headers=ours
            )
            assert "/end_user" in faults(answer)
    nobodys = (await gateway.submit(ann)).json()
    path = f"/v1/jobs/{job['id']}"
    for headers in (ours, everything, ann.headers):
        assert (await get(gateway, path, headers)).json() == job
    for headers in (theirs, await bearer(gateway, await gateway.make_person(), end_user=VISITOR)):
        for answer in (
            await get(gateway, path, headers),
            await get(gateway, path, headers | {"Prefer": "wait=1"}),
            await get(gateway, f"{path}/events", headers),
            await gateway.client.post(f"{path}/cancel", headers=headers),
        ):
            refusal(answer, 404, "not-found")
    listed = [[one["id"] for one in (await get(gateway, "/v1/jobs", who)).json()["data"]] for who in (ours, theirs)]
    assert (listed[0][0], listed[0][2:], listed[1]) == (named.json()["id"], [job["id"]], [])
    assert (await get(gateway, "/v1/jobs?end_user=b", ours)).json()["data"] == []
    assert nobodys["id"] in [one["id"] for one in (await get(gateway, "/v1/jobs", everything)).json()["data"]]
    cancelled = await gateway.client.post(f"{path}/cancel", headers=ours)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "canceled")


async def test_a_token_of_a_lead_or_an_admin_shows_its_own_jobs_alone(gateway: Gateway) -> None:
    lead = await gateway.make_person("lead")
    mia = await gateway.make_person(team_id=lead.team_id)
    job_id = (await gateway.submit(mia)).json()["id"]
    for person in (lead, await gateway.make_person("admin"), await gateway.make_person("finance")):
        own = (await gateway.submit(person)).json()["id"]
        assert (await get(gateway, f"/v1/jobs/{job_id}", person.headers)).status_code == 200
        headers = await bearer(gateway, person)
        refusal(await get(gateway, f"/v1/jobs/{job_id}", headers), 404, "not-found")
        refusal(await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=headers), 404, "not-found")
        assert [job["id"] for job in (await get(gateway, "/v1/jobs", headers)).json()["data"]] == [own]


async def test_idempotency_keys_of_one_end_user_meet_nobody_elses(gateway: Gateway, ann: Person) -> None:
    key = {"Idempotency-Key": "order-1"}
    jobs = []
    for body in ({"end_user": "a"}, {"end_user": "b"}, {"end_user": "a» b"}):
        headers = await bearer(gateway, ann, **body) | key
        first, again = [await gateway.client.post(TEXT, json={"prompt": "x"}, headers=headers) for _ in range(2)]
        assert again.headers["idempotent-replayed"] == "true"
        assert first.json() == again.json()
        reused = refusal(
            await gateway.client.post(TEXT, json={"prompt": "y"}, headers=headers), 422, "idempotency-key-reused"
        )
        assert reused["job_id"] == first.json()["id"]
        jobs.append(first.json()["id"])
    without = await gateway.client.post(TEXT, json={"prompt": "x"}, headers=await bearer(gateway, ann) | key)
    of_key = await gateway.submit(ann, "x", headers=key)
    assert of_key.json() == without.json()
    assert len({*jobs, of_key.json()["id"]}) == 4


async def test_in_the_query_a_token_of_one_job_opens_its_events(gateway: Gateway, ann: Person) -> None:
    first, second = [(await gateway.submit(ann)).json()["id"] for _ in range(2)]
    for job_id in (first, second):
        await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    token = (await make(gateway, ann, scope="read", job_id=first))["token"]
    broad = (await make(gateway, ann))["token"]
    events = await get(gateway, f"/v1/jobs/{first}/events?token={token}")
    assert events.status_code == 200
    assert json.loads(events.text.split("data: ")[1].split("\n")[0])["id"] == first
    for path in (
        f"/v1/jobs/{second}/events?token={token}",
        f"/v1/jobs/job_{NOBODYS}/events?token={token}",
        f"/v1/jobs/nonsense/events?token={token}",
        f"/v1/jobs/{first}/events?token={broad}",
        f"/v1/jobs/{first}/events?token={ann.secret}",
        f"/v1/jobs/{first}/events?token={token}&token={token}",
        f"/v1/jobs/{first}/events?token=",
        f"/v1/jobs/{first}/events?token={token[:-1]}",
    ):
        problem = refusal(await get(gateway, path, ann.headers), 401, "token-unknown")
        assert token[:20] not in json.dumps(problem)
    for path in (f"/v1/jobs/{first}?token={token}", f"/v1/jobs/{first}/events?%74oken={token}"):
        refusal(await get(gateway, path), 401, "key-unknown")
    headers = {"Authorization": f"Key {token}"}
    assert (await get(gateway, f"/v1/jobs/{first}/events", headers)).status_code == 200
    for path in (f"/v1/jobs/{second}", f"/v1/jobs/{second}/events"):
        refusal(await get(gateway, path, headers), 401, "token-unknown")


async def test_a_token_dies_with_the_key_that_made_it(gateway: Gateway) -> None:
    eve = await gateway.make_person()
    job_id = (await gateway.submit(eve)).json()["id"]
    headers = await bearer(gateway, eve)
    answer = await gateway.client.post(f"/v1/keys/{eve.key_id}/rotate", json={}, headers=ADMIN)
    assert answer.status_code == 200
    for method, path in (
        ("GET", f"/v1/jobs/{job_id}"),
        ("GET", "/v1/jobs"),
        ("POST", TEXT),
        ("POST", f"{TEXT}/estimate"),
    ):
        refusal(await gateway.client.request(method, path, json={"prompt": "x"}, headers=headers), 401, "key-unknown")


async def test_a_stream_ends_with_its_token(gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    token = (await make(gateway, ann, scope="read", job_id=job_id))["token"]
    over = gateway.wiring.clock() + timedelta(hours=1)
    async with gateway.client.stream("GET", f"/v1/jobs/{job_id}/events?token={token}") as answer:
        lines = answer.aiter_lines()
        while not (await anext(lines)).startswith("data:"):
            pass
        monkeypatch.setattr(wait, "asked_now", lambda *asked: replace(asked_now(*asked), now=over))
        await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
        assert not [line async for line in lines if line.startswith("data:")]


async def test_browsers_have_seats_apart_from_their_keys_and_few_for_each_visitor(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    seats: Seats = gateway.app.state.rooms.seats
    monkeypatch.setattr(seats, "a_visitor", 1)
    monkeypatch.setattr(seats, "of_tokens", 2)
    tokens = [await bearer(gateway, ann, end_user=name) for name in "abc"]
    jobs = [(await gateway.client.post(TEXT, json={"prompt": "x"}, headers=one)).json()["id"] for one in tokens]
    waits = {"Prefer": "wait=60"}

    def waits_for(n: int) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(get(gateway, f"/v1/jobs/{jobs[n]}", tokens[n] | waits))

    waiting = [waits_for(0)]
    await until(lambda: len(seats._taken) == 2)
    assert refusal(await waits_for(0), 429, "too-many-streams")["limit"] == 1
    waiting.append(waits_for(1))
    await until(lambda: len(seats._taken) == 3)
    assert refusal(await waits_for(2), 429, "too-many-streams")["limit"] == 2
    for job_id in reversed(jobs):
        await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
        if job_id == jobs[2]:
            assert (await get(gateway, f"/v1/jobs/{job_id}", ann.headers | waits)).status_code == 200
    assert [answer.json()["status"] for answer in await asyncio.gather(*waiting)] == ["canceled"] * 2
    await until(lambda: not seats._taken)


async def test_bad_tokens_count_like_wrong_keys_and_a_good_one_passes(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = gateway.app.state.failures
    monkeypatch.setattr(failures, "most", 4)
    failures._windows.clear()
    job_id = (await gateway.submit(ann)).json()["id"]
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    token = (await make(gateway, ann, scope="read", job_id=job_id))["token"]
    fresh = (await make(gateway, ann, scope="read", job_id=job_id, lifetime_seconds=60))["token"]
    path = f"/v1/jobs/{job_id}/events"
    header = {"Authorization": f"Key {token}"}
    try:
        for good in ({"url": f"{path}?token={token}"}, {"url": path, "headers": header}):
            assert (await gateway.client.get(**good)).status_code == 200
        for n in range(2):
            refusal(await get(gateway, f"{path}?token={token}{n}"), 401, "token-unknown")
            refusal(await get(gateway, path, {"Authorization": f"Key {token}{n}"}), 401, "token-unknown")
        for guess in (f"{path}?token={token}2", f"{path}?token={fresh}"):
            answer = await get(gateway, guess)
            refusal(answer, 429, "too-many-failures")
            assert int(answer.headers["retry-after"]) >= 1
        refusal(await get(gateway, f"{path}?token={token}", {"Authorization": "Key guess"}), 429, "too-many-failures")
        for good in ({"url": f"{path}?token={token}"}, {"url": path, "headers": header}):
            assert (await gateway.client.get(**good)).status_code == 200
        refusal(await get(gateway, "/v1/me", header), 401, "token-unknown")  # opened nothing there: looked at no more
        refusal(await get(gateway, path, header), 429, "too-many-failures")
    finally:
        failures._windows.clear()


@pytest_asyncio.fixture(loop_scope="package")
async def without_secret(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Gateway]:
    """A gateway without SECRET_KEY."""
    given = settings_for(fresh_database(postgres, template))
    settings = given.model_copy(update={"secret_key": None})
    async with run_gateway(settings, work=False) as running:
        yield running


async def test_without_a_secret_key_there_are_no_tokens(without_secret: Gateway, gateway: Gateway, ann: Person) -> None:
    eve = await without_secret.make_person()
    for body in ({"scope": "read"}, {"scope": "submit", "job_id": f"job_{NOBODYS}"}):
        answer = await without_secret.client.post("/v1/tokens", json=body, headers=eve.headers)
        refusal(answer, 409, "tokens-off")
    headers = await bearer(gateway, ann)
    refusal(await get(without_secret, "/v1/jobs", headers), 401, "token-unknown")
    page = await without_secret.client.get("/problems/tokens-off")
    assert "SECRET_KEY" in page.text

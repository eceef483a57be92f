"""Status, stream, result and cancel of a job, as the sandbox itself answers them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway
from tests.sandbox.running import TEXT, Sandbox, run_sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIAS = "fal-ai/kling-video"
SPEED = 100.0
TOLD = (
    "x-fal-billable-units",
    "x-fal-error-type",
    "x-fal-retryable",
    "x-fal-needs-retry",
    "x-fal-request-timeout-type",
)

ENDS = [
    "",
    "[no-video]",
    "[odd-units]",
    "[zero-units]",
    "[no-units]",
    "[refuse]",
    "[refuse-billed]",
    "[refuse-no-units]",
    "[no-media]",
    "[bad-image]",
    "[400]",
    "[403]",
    "[500]",
    "[500-billed]",
    "[downstream]",
    "[runner-lost]",
    "[timeout]",
]
"""Every word of the sandbox's that says how a job ends."""


@pytest.fixture(scope="module")
def fal() -> Iterator[Sandbox]:
    with run_sandbox("--speed", str(SPEED)) as (sandbox, _):
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(postgres: EmbeddedPostgres, template: str, fal: Sandbox) -> AsyncIterator[Gateway]:
    postgres.create_database("compat_about", template)
    settings = settings_for(postgres.dsn("compat_about"), FAL_QUEUE_URL=fal.url, POLL_SECONDS="0.05")
    async with run_gateway(settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ann(gateway: Gateway) -> Person:
    return await gateway.make_person()


@pytest.fixture
def still(fal: Sandbox) -> Iterator[Sandbox]:
    """A fal where nothing moves but by hand."""
    fal.set_clock(speed=0)
    yield fal
    fal.set_clock(speed=SPEED)


async def ask(gateway: Gateway, person: Person, job_id: str, tail: str = "", method: str = "GET") -> httpx.Response:
    url = f"/fal/{ALIAS}/requests/{job_id}{tail}"
    return await gateway.client.request(method, url, headers={"Authorization": f"Key {person.secret}"})


async def submit(gateway: Gateway, person: Person, prompt: str = "a boat") -> str:
    answer = await gateway.submit(person, prompt)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def seen(gateway: Gateway, person: Person, job_id: str, status: str) -> None:
    """Until the gateway has seen it so at fal."""
    for _ in range(1000):
        if (job := await gateway.job(person, job_id))["status"] == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(job)


def told(answer: httpx.Response, request_id: str) -> dict[str, Any]:
    """What an answer tells, without what must differ: ids, URLs, times, and the `message` that is ours alone."""
    assert answer.headers["x-fal-request-id"] == request_id
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    body.pop("message", None)
    if body.get("video"):
        assert body["video"].pop("url")
    for name in ("response_url", "status_url", "cancel_url"):
        assert request_id in body.pop(name, request_id)
    assert body.pop("request_id", request_id) == request_id
    if "metrics" in body:
        body["metrics"] = {name: type(value) for name, value in body["metrics"].items()}
    if body.get("logs"):
        assert all(entry.pop("timestamp") for entry in body["logs"])
        body["logs"] = body["logs"][:5]  # whether the last is written by then is a matter of rounding
    headers = {name: answer.headers[name] for name in TOLD if name in answer.headers}
    return {"code": answer.status_code, "body": body, "headers": headers}


async def test_every_end_is_told_as_fal_tells_it(gateway: Gateway, ann: Person, fal: Sandbox) -> None:
    ours = [await submit(gateway, ann, f"a boat {word}") for word in ENDS]
    theirs = [fal.start(f"a ship {word}") for word in ENDS]
    for word, job_id, request_id in zip(ENDS, ours, theirs, strict=True):
        fal.wait(request_id)
        assert (await gateway.job(ann, job_id, wait=30))["finished_at"], word
        for tail in ("", "/response", "/status", "/status?logs=1"):
            direct = told(fal.call(request_id, tail), request_id)
            assert told(await ask(gateway, ann, job_id, tail), job_id) == direct, (word, tail)


async def test_an_error_says_the_same_to_both_clients(gateway: Gateway, ann: Person) -> None:
    for word in ("[refuse]", "[runner-lost]"):
        job_id = await submit(gateway, ann, f"a boat {word}")
        error = (await gateway.job(ann, job_id, wait=30))["error"]
        body = (await ask(gateway, ann, job_id)).json()
        assert body["message"] == error["detail"]
        assert body["detail"]


async def test_the_urls_are_ours_and_work(gateway: Gateway, ann: Person) -> None:
    job_id = await submit(gateway, ann)
    await gateway.job(ann, job_id, wait=30)
    status = (await ask(gateway, ann, job_id, "/status")).json()
    assert status["request_id"] == job_id
    assert status["response_url"] == f"{gateway.url}/fal/{ALIAS}/requests/{job_id}"
    assert status["status_url"] == f"{status['response_url']}/status"
    assert status["cancel_url"] == f"{status['response_url']}/cancel"
    for url in (status["response_url"], status["status_url"]):
        for way in (url, f"{url}/", url.replace(ALIAS, TEXT)):
            assert (await gateway.client.get(way, headers=ann.headers)).status_code == 200
    assert (await gateway.client.put(status["cancel_url"], headers=ann.headers)).status_code == 400


async def test_a_job_on_its_way_is_told_as_fal_tells_it(gateway: Gateway, ann: Person, still: Sandbox) -> None:
    job_id, request_id = await submit(gateway, ann, "a boat on its way"), still.start("a ship on its way")
    await seen(gateway, ann, job_id, "submitted")
    (ours,) = still.requests(prompt="a boat on its way")
    for asked in ("/status", "/status?logs=0", "/status?logs=1", ""):
        direct = told(still.call(request_id, asked), request_id)
        here = told(await ask(gateway, ann, job_id, asked), job_id)
        direct["body"].pop("queue_position", None)
        assert here["body"].pop("queue_position", 0) >= 0
        assert here == direct
    for moved in (ours["request_id"], request_id):
        still.move(moved, "IN_PROGRESS")
    await seen(gateway, ann, job_id, "running")
    for asked in ("/status", "/status?logs=false", ""):
        assert told(await ask(gateway, ann, job_id, asked), job_id) == told(still.call(request_id, asked), request_id)
    still.move(ours["request_id"], "COMPLETED")
    await seen(gateway, ann, job_id, "succeeded")


async def test_a_cancel_is_answered_as_fal_answers_it(gateway: Gateway, ann: Person, still: Sandbox) -> None:
    job_id, request_id = await submit(gateway, ann, "a boat to stop"), still.start("a ship to stop")
    await seen(gateway, ann, job_id, "submitted")
    (ours,) = still.requests(prompt="a boat to stop")
    for moved in (ours["request_id"], request_id):
        still.move(moved, "IN_PROGRESS")
    await seen(gateway, ann, job_id, "running")

    direct = told(still.call(request_id, "/cancel", "PUT"), request_id)
    assert direct["code"] == 202
    assert told(await ask(gateway, ann, job_id, "/cancel", "PUT"), job_id) == direct
    for _ in range(1000):
        if still.requests(prompt="a boat to stop")[0]["calls"]["cancel"]:
            break
        await asyncio.sleep(0.02)
    still.set_clock(advance=10)
    await seen(gateway, ann, job_id, "canceled")
    for tail, method in (("", "GET"), ("/status", "GET"), ("/cancel", "PUT")):
        direct = told(still.call(request_id, tail, method), request_id)
        here = told(await ask(gateway, ann, job_id, tail, method), job_id)
        if method == "PUT":
            assert here["body"].pop("detail")
        assert here == direct


async def test_what_is_not_theirs_is_not_there(gateway: Gateway, ann: Person) -> None:
    bob = await gateway.make_person()
    job_id = await submit(gateway, ann)
    ended = await gateway.job(ann, job_id, wait=30)
    paths = [
        (bob, f"{ALIAS}/requests/{job_id}"),
        (ann, f"{ALIAS}/requests/job_{'0' * 32}"),
        (ann, f"{ALIAS}/requests/764cabcf-b745-4b3e-ae38-1200304cf45b"),
        (ann, f"{ALIAS}/requests/{ended['fal_request_id']}"),
        (ann, f"fal-ai/another-model/requests/{job_id}"),
        (ann, f"fal-ai/kling-video/v2.1/master/image-to-video/requests/{job_id}"),
    ]
    for person, path in paths:
        for method, tail in (("GET", ""), ("GET", "/status"), ("GET", "/status/stream"), ("PUT", "/cancel")):
            answer = await gateway.client.request(method, f"/fal/{path}{tail}", headers=person.headers)
            assert answer.status_code == 404, path
            body = answer.json()
            assert body["status"] == "NOT_FOUND"
            assert body["detail"] == body["message"]


async def test_roles_read_as_they_do_elsewhere_but_finance_its_own_only(gateway: Gateway, ann: Person) -> None:
    job_id = await submit(gateway, ann)
    await gateway.job(ann, job_id, wait=30)
    for role, code in (("lead", 200), ("member", 404), ("admin", 200), ("finance", 404)):
        person = await gateway.make_person(role, team_id=ann.team_id)
        assert (await ask(gateway, person, job_id, "/status")).status_code == code, role
        assert (await ask(gateway, person, job_id)).status_code == code, role


async def test_nobody_without_a_key_learns_what_an_id_looks_like(gateway: Gateway, ann: Person) -> None:
    job_id = await submit(gateway, ann)
    for asked in (job_id, "x"):
        answer = await gateway.client.get(f"/fal/{ALIAS}/requests/{asked}/status")
        assert answer.status_code == 401


async def test_another_method_is_told_which_to_use(gateway: Gateway, ann: Person) -> None:
    job_id = await submit(gateway, ann)
    for method, tail, allowed in (("PUT", "/status", "GET"), ("POST", "", "GET"), ("GET", "/cancel", "PUT")):
        answer = await ask(gateway, ann, job_id, tail, method)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


async def test_the_stream_tells_each_status_once_and_ends(gateway: Gateway, ann: Person, still: Sandbox) -> None:
    job_id = await submit(gateway, ann, "a boat to follow")
    await seen(gateway, ann, job_id, "submitted")
    (request,) = still.requests(prompt="a boat to follow")
    url = f"/fal/{ALIAS}/requests/{job_id}/status/stream?logs=1"
    async with asyncio.timeout(20), gateway.client.stream("GET", url, headers=ann.headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-fal-request-id"] == job_id
        stream = events(answer)
        assert (await anext(stream))["status"] == "IN_QUEUE"
        still.move(request["request_id"], "IN_PROGRESS")
        while (event := await anext(stream))["status"] != "IN_PROGRESS":
            assert event["status"] == "IN_QUEUE"
        still.move(request["request_id"], "COMPLETED")
        rest = [event async for event in stream]
    assert [event["status"] for event in rest][-1] == "COMPLETED"
    assert all(earlier != later for earlier, later in itertools.pairwise(rest))
    assert rest[-1] == (await ask(gateway, ann, job_id, "/status?logs=1")).json()
    assert rest[-1]["logs"][0]["message"] == "Rendering: 0%"


async def test_a_stream_of_what_has_ended_tells_that(gateway: Gateway, ann: Person) -> None:
    job_id = await submit(gateway, ann, "a boat [refuse]")
    await gateway.job(ann, job_id, wait=30)
    answer = await ask(gateway, ann, job_id, "/status/stream")
    assert [event async for event in events(answer)] == [(await ask(gateway, ann, job_id, "/status")).json()]

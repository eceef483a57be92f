"""fal's server-proxy protocol: what may stand in `x-fal-target-url`, and that nothing is ever fetched."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway
from tests.sandbox.running import Sandbox

from .conftest import fresh_database
from .world import NOBODYS, TEXT_ENDPOINT, nothing_written

pytestmark = pytest.mark.asyncio(loop_scope="package")

PROXY = "/fal/proxy"
QUEUE = "https://queue.fal.run"
SUBMIT = f"{QUEUE}/{TEXT_ENDPOINT}"
INITIATE = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
BODY = {"prompt": "a boat"}
STUDIO = "https://studio.example.com"


@dataclass
class Fal:
    """Every connection that anybody makes to it is counted, and closed."""

    port: int = 0
    calls: list[bytes] = field(default_factory=list)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls.append(await reader.read(1000))
        writer.close()


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def counted() -> AsyncIterator[Fal]:
    fal = Fal()
    async with await asyncio.start_server(fal.take, "127.0.0.1", 0) as server:
        fal.port = server.sockets[0].getsockname()[1]
        yield fal


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def proxy(postgres: EmbeddedPostgres, template: str, counted: Fal) -> AsyncIterator[Gateway]:
    """A gateway whose fal counts whoever calls it; it sends no job itself."""
    url = f"http://127.0.0.1:{counted.port}"
    where = {"FAL_QUEUE_URL": url, "FAL_REST_URL": url, "FAL_API_URL": url}
    settings = settings_for(fresh_database(postgres, template), CORS_ORIGINS=STUDIO, **where)
    async with run_gateway(settings, work=False) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def eva(proxy: Gateway) -> Person:
    return await proxy.make_person()


async def call(gateway: Gateway, person: Person | None, *targets: str, method: str = "POST") -> httpx.Response:
    headers = [("x-fal-target-url", target) for target in targets] + [("origin", STUDIO)]
    headers += list(person.headers.items()) if person else []
    return await gateway.client.request(method, PROXY, headers=headers, json=BODY if method == "POST" else None)


def refused(answer: httpx.Response, status: int) -> str:
    """What is said to both clients, of a refusal that neither repeats and that a page can read."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-fal-request-id"]
    assert answer.headers["access-control-allow-origin"] == STUDIO
    body = answer.json()
    assert body["message"] == body["detail"]
    assert body["detail"]
    return str(body["detail"])


ELSEWHERE = [
    "",
    "/",
    TEXT_ENDPOINT,
    f"http://queue.fal.run/{TEXT_ENDPOINT}",
    f"//queue.fal.run/{TEXT_ENDPOINT}",
    f"HTTPS://queue.fal.run/{TEXT_ENDPOINT}",
    f"https://QUEUE.fal.run/{TEXT_ENDPOINT}",
    f"https://queue.fal.run:443/{TEXT_ENDPOINT}",
    f"https://queue.fal.run:8080/{TEXT_ENDPOINT}",
    f"https://queue.fal.run./{TEXT_ENDPOINT}",
    f"https://ann:secret@queue.fal.run/{TEXT_ENDPOINT}",
    f"https://@queue.fal.run/{TEXT_ENDPOINT}",
    f"https://queue.fal.run@evil.example/{TEXT_ENDPOINT}",
    f"https://evil.example/{TEXT_ENDPOINT}",
    f"https://evil.example/https://queue.fal.run/{TEXT_ENDPOINT}",
    f"https://evil.example#@queue.fal.run/{TEXT_ENDPOINT}",
    f"https://queue.fal.run.evil.example/{TEXT_ENDPOINT}",
    f"https://evilqueue.fal.run/{TEXT_ENDPOINT}",
    f"https://x.queue.fal.run/{TEXT_ENDPOINT}",
    f"https://queue%2Efal.run/{TEXT_ENDPOINT}",
    f"https://fal.ai/{TEXT_ENDPOINT}",
    f"https://v3.fal.media/{TEXT_ENDPOINT}",
    f"https://api.fal.ai/{TEXT_ENDPOINT}",
    f"https:\\\\queue.fal.run\\{TEXT_ENDPOINT}",
    f"https:/queue.fal.run/{TEXT_ENDPOINT}",
    f"https://queue.fal.run\\@evil.example/{TEXT_ENDPOINT}",
    "https://queue.fal.run",
    "https://queue.fal.run/",
    "https://queue.fal.run/fal-ai",
    f"{QUEUE}//{TEXT_ENDPOINT}",
    f"{QUEUE}/../{TEXT_ENDPOINT}",
    f"{QUEUE}/./{TEXT_ENDPOINT}",
    f"{QUEUE}/fal-ai/../{TEXT_ENDPOINT}",
    f"{QUEUE}/{TEXT_ENDPOINT}/..",
    f"{QUEUE}/fal-ai/%2e%2e/kling-video",
    f"{QUEUE}/fal-ai/..%2fkling-video",
    f"{QUEUE}/{quote(TEXT_ENDPOINT, safe='')}",
    f"{QUEUE}/{quote(quote(TEXT_ENDPOINT, safe=''), safe='')}",
    f"{QUEUE}/fal-ai/kling%252dvideo",
    quote(SUBMIT, safe=""),
    f"{SUBMIT}#fragment",
    f"{SUBMIT}?logs=1#fragment",
    f"{SUBMIT} x",
    f"{SUBMIT};x",
    f"{SUBMIT}, {SUBMIT}",
    f"{SUBMIT}?{'x' * 2_000}",
    f"{QUEUE}/{TEXT_ENDPOINT}/stream",
    f"{QUEUE}/{TEXT_ENDPOINT}/realtime",
    f"https://fal.run/{TEXT_ENDPOINT}/stream",
    f"wss://fal.run/{TEXT_ENDPOINT}/realtime",
    "https://fal.run/tokens/",
    "https://rest.fal.ai/tokens/",
    "https://rest.fal.ai/tokens",
    "https://rest.fal.ai/",
    "https://rest.fal.ai/storage/upload/initiate",
    "https://rest.fal.ai/storage/upload/initiate/?storage_type=fal-cdn-v3",
    "https://rest.fal.ai/storage/upload/initiate?storage_type=gcs",
    "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3&storage_type=gcs",
    "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3&x=",
    "https://rest.fal.ai/storage/auth/token?storage_type=fal-cdn-v3",
    "https://rest.fal.ai/.well-known/jwks.json",
]


async def test_no_other_url_is_answered_and_none_is_ever_fetched(proxy: Gateway, eva: Person, counted: Fal) -> None:
    here = f"http://127.0.0.1:{counted.port}"
    own = [here, f"{here}/{TEXT_ENDPOINT}", f"https://127.0.0.1:{counted.port}/{TEXT_ENDPOINT}", f"{proxy.url}{PROXY}"]
    methods = itertools.cycle(("GET", "PUT"))
    async with nothing_written(proxy):
        for target in (*ELSEWHERE, *own):
            assert refused(await call(proxy, eva, target), 400), target
            assert refused(await call(proxy, None, target, method=next(methods)), 400), target
    assert not counted.calls


async def test_the_header_is_sent_once(proxy: Gateway, eva: Person, counted: Fal) -> None:
    async with nothing_written(proxy):
        for targets in ((), (SUBMIT, SUBMIT), (SUBMIT, "https://evil.example/"), ("https://evil.example/", SUBMIT)):
            assert "once" in refused(await call(proxy, eva, *targets), 400)
    assert not counted.calls


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("https://rest.fal.ai/tokens/", "POST /v1/tokens"),
        (f"https://fal.run/{TEXT_ENDPOINT}/realtime", "realtime"),
        (f"https://fal.run/{TEXT_ENDPOINT}/stream", "stream"),
        ("https://rest.fal.ai/billing", "nothing else"),
        ("https://evil.example/x", "queue.fal.run"),
        (f"{QUEUE}/fal-ai/../x", "`..`"),
    ],
)
async def test_each_refusal_says_what_it_is_about(proxy: Gateway, eva: Person, target: str, word: str) -> None:
    assert word in refused(await call(proxy, eva, target), 400)


@pytest.mark.parametrize("step", ["initiate", "complete"])
async def test_an_upload_in_parts_is_too_large_by_either_way(proxy: Gateway, eva: Person, step: str) -> None:
    path = f"storage/upload/{step}-multipart?storage_type=fal-cdn-v3"
    async with nothing_written(proxy):
        named = await call(proxy, eva, f"https://rest.fal.ai/{path}")
        asked = await proxy.client.post(f"/fal/{path}", json={}, headers=eva.headers)
    assert named.status_code == asked.status_code == 413
    assert named.json() == asked.json()
    assert "in parts" in named.json()["message"]


async def test_what_the_gateway_does_not_serve_is_not_there(proxy: Gateway, eva: Person, counted: Fal) -> None:
    async with nothing_written(proxy):
        for target in (f"{QUEUE}/fal-ai/flux/dev", "https://fal.run/fal-ai/flux/dev", f"{QUEUE}/other/video"):
            assert (await call(proxy, eva, target)).status_code == 404
        for job_id in (f"job_{NOBODYS}", "x"):
            status = f"{QUEUE}/fal-ai/kling-video/requests/{job_id}/status"
            assert (await call(proxy, eva, status, method="GET")).status_code == 404
        assert (await call(proxy, eva, SUBMIT, method="GET")).status_code in {404, 405}
        assert (await call(proxy, eva, INITIATE)).status_code == 422
    assert not counted.calls


async def test_a_page_without_credentials_hears_what_to_do(proxy: Gateway, counted: Fal) -> None:
    status = f"{QUEUE}/fal-ai/kling-video/requests/job_{NOBODYS}/status"
    for target, method in ((SUBMIT, "POST"), (status, "GET"), (INITIATE, "POST")):
        answer = await call(proxy, None, target, method=method)
        assert "POST /v1/tokens" in refused(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    wrong = await proxy.client.post(
        PROXY, json=BODY, headers={"x-fal-target-url": SUBMIT, "authorization": "Key wrong", "origin": STUDIO}
    )
    refused(wrong, 401)
    assert not counted.calls


async def test_cookies_and_the_name_of_a_browser_mean_nothing(proxy: Gateway, eva: Person) -> None:
    headers = {"x-fal-target-url": SUBMIT, "cookie": f"authorization=Bearer {eva.secret}", "user-agent": eva.secret}
    assert (await proxy.client.post(PROXY, json=BODY, headers=headers)).status_code == 401


async def test_the_query_of_the_target_reaches_the_answer_and_that_of_the_proxy_does_not(
    proxy: Gateway, eva: Person, counted: Fal
) -> None:
    hook = "https://hooks.example.com/fal?a=1&b=2"
    headers = {"x-fal-target-url": f"{SUBMIT}?fal_webhook={quote(hook, safe='')}", "origin": STUDIO, **eva.headers}
    made = await proxy.client.post(f"{PROXY}?fal_webhook=https://evil.example/", json=BODY, headers=headers)
    assert made.status_code == 200, made.text
    async with proxy.wiring.db.plain() as plain:
        kept = await plain.fetchval("SELECT webhook_url FROM jobs WHERE id = $1", made.json()["request_id"][4:])
    assert kept == hook
    assert not counted.calls


async def test_a_browser_makes_a_video_with_a_token_and_it_is_a_job_like_any_other(
    working: Gateway, fal: Sandbox
) -> None:
    ann = await working.make_person()
    body = {"scope": "submit", "end_user": "visitor 42"}
    token = (await working.client.post("/v1/tokens", json=body, headers=ann.headers)).json()["token"]
    browser = Person(ann.user_id, ann.team_id, ann.key_id, token)
    made = await call(working, browser, f"{SUBMIT}?x=1")
    job_id = made.json()["request_id"]
    about = f"{QUEUE}/fal-ai/kling-video/requests/{job_id}"
    job = await working.job(ann, job_id, wait=60)
    assert (job["status"], job["end_user"], job["charged_usd"]) == ("succeeded", "visitor 42", "1.40")
    status = await call(working, browser, f"{about}/status?logs=1", method="GET")
    assert status.status_code == 200
    assert status.json()["status"] == "COMPLETED"
    assert "logs" in status.json()
    stream = await call(working, browser, f"{about}/status/stream?logs=0", method="GET")
    assert stream.headers["content-type"].startswith("text/event-stream")
    last = [line for line in stream.text.splitlines() if line.startswith("data:")][-1]
    assert json.loads(last[5:])["status"] == "COMPLETED"
    result = await call(working, browser, about, method="GET")
    assert result.json()["video"]["url"].startswith(fal.url)
    again = await call(working, browser, f"{about}/cancel", method="PUT")
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    direct = await call(working, browser, f"https://fal.run/{TEXT_ENDPOINT}")
    assert direct.json()["video"]["url"].startswith(fal.url)
    assert len(fal.requests(prompt=BODY["prompt"])) >= 2

"""Pages of other origins: those that CORS_ORIGINS lists may call and read every answer, all others none."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from starlette.responses import Response

from app.embedded import EmbeddedPostgres
from app.web.cors import crossing
from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway

from .conftest import fresh_database
from .world import IMAGE, NOBODYS, TEXT

pytestmark = pytest.mark.asyncio(loop_scope="package")

STUDIO = "https://studio.example.com"
LOCAL = "http://localhost:5173"
OTHERS = ("https://evil.example", "https://studio.example.com.evil.example", "http://studio.example.com", "null")
SENT_BY_CLIENTS = (
    "authorization, content-type, x-fal-target-url, x-fal-queue-priority, x-fal-request-timeout, "
    "x-fal-request-start-timeout, x-fal-runner-hint, x-fal-object-lifecycle-preference, x-fal-tags, x-end-user, "
    "idempotency-key, prefer, last-event-id, range"
)
READ_BY_CLIENTS = {
    "x-fal-request-id", "x-fal-billable-units", "x-fal-error-type", "x-fal-retryable", "x-request-id", "location",
    "retry-after", "content-range", "accept-ranges", "idempotent-replayed", "preference-applied",
}  # fmt: skip


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def crossed(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Gateway]:
    """A gateway that two origins may call."""
    settings = settings_for(fresh_database(postgres, template), CORS_ORIGINS=f"{STUDIO},{LOCAL}")
    async with run_gateway(settings, work=False) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def eva(crossed: Gateway) -> Person:
    return await crossed.make_person()


def names(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",")}


def readable(answer: httpx.Response, origin: str = STUDIO) -> httpx.Response:
    """An answer that a page of this origin can read, with all that clients look for in it."""
    assert answer.headers.get_list("access-control-allow-origin") == [origin], (answer.status_code, answer.text)
    assert "origin" in names(answer.headers["vary"])
    assert names(answer.headers["access-control-expose-headers"]) >= READ_BY_CLIENTS
    assert "access-control-allow-credentials" not in answer.headers
    assert "cross-origin-resource-policy" not in answer.headers
    assert answer.headers["x-request-id"].startswith("req_")
    return answer


async def test_every_answer_and_every_refusal_can_be_read(
    crossed: Gateway, eva: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = crossed.client

    async def call(method: str, path: str, *, key: bool = True, **more: object) -> int:
        headers = {"Origin": STUDIO, "Content-Type": "application/json"} | (eva.headers if key else {})
        answer = await http.request(method, path, headers=headers, **more)  # type: ignore[arg-type]
        return readable(answer).status_code

    body = {"prompt": "x"}
    made = await http.post(TEXT, json=body, headers=eva.headers | {"Origin": LOCAL})
    path = f"/v1/jobs/{readable(made, LOCAL).json()['id']}"
    assert await call("POST", f"{path}/cancel") == 200
    assert await call("GET", f"{path}/events") == 200
    assert await call("GET", path) == 200
    assert await call("GET", "/v1/jobs", key=False) == 401
    assert await call("GET", f"/v1/jobs/job_{NOBODYS}") == 404
    assert await call("GET", "/v1/nonsense") == 404
    assert await call("DELETE", TEXT) == 405
    assert await call("POST", TEXT, content=b"x") == 415
    assert await call("POST", TEXT, json={}) == 422
    assert await call("POST", f"{path}/cancel") == 200
    assert await call("POST", IMAGE, content=b"x" * 100) == 415
    assert await call("POST", "/fal/proxy", key=False) == 400
    assert await call("GET", "/health/live", key=False) == 200
    assert await call("POST", TEXT, content=b"x" * 2_000_000) == 413
    with monkeypatch.context() as patch:  # the edge's own
        patch.setattr(crossed.app.state.failures, "refused_seconds", lambda *_: 7)
        assert await call("GET", path) == 429

        async def breaks(_: object) -> None:
            raise RuntimeError("planted")

        patch.undo()
        patch.setattr(crossed.app.state.rooms.reader, "read", breaks)
        assert await call("GET", path) == 500


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [TEXT, "/fal/proxy", f"/v1/jobs/job_{NOBODYS}/events"])
async def test_a_preflight_lets_through_all_that_clients_send(crossed: Gateway, method: str, path: str) -> None:
    answer = await crossed.client.options(
        path,
        headers={
            "Origin": STUDIO,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": SENT_BY_CLIENTS,
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == STUDIO
    assert "origin" in names(answer.headers["vary"])
    assert method.lower() in names(answer.headers["access-control-allow-methods"])
    assert names(answer.headers["access-control-allow-headers"]) >= names(SENT_BY_CLIENTS)
    assert int(answer.headers["access-control-max-age"]) >= 60
    assert answer.headers["x-request-id"].startswith("req_")
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", OTHERS)
async def test_no_other_origin_may_read_anything(crossed: Gateway, eva: Person, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    answers = [
        await crossed.client.options("/v1/jobs", headers=asked),
        await crossed.client.get("/v1/jobs", headers=eva.headers | {"Origin": origin}),
        await crossed.client.get("/v1/jobs", headers={"Origin": origin}),
        await crossed.client.post(TEXT, content=b"x" * 2_000_000, headers=eva.headers | {"Origin": origin}),
    ]
    for answer in answers:
        assert "access-control-allow-origin" not in answer.headers
        assert "origin" in names(answer.headers["vary"])
    assert answers[0].status_code == 400


async def test_an_answer_that_asks_for_no_page_says_that_another_would_differ(crossed: Gateway, eva: Person) -> None:
    answer = await crossed.client.get("/v1/jobs", headers=eva.headers)
    assert "origin" in names(answer.headers["vary"])
    assert "access-control-allow-origin" not in answer.headers


async def test_a_star_lets_every_page_in() -> None:
    app = crossing(("*",))(Response("x"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        for origin in (STUDIO, *OTHERS):
            answer = await http.get("/", headers={"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == "*"
            assert names(answer.headers["access-control-expose-headers"]) >= READ_BY_CLIENTS
            asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
            asked["Access-Control-Request-Headers"] = SENT_BY_CLIENTS
            preflight = await http.options("/", headers=asked)
            assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "*")
            assert "access-control-allow-credentials" not in preflight.headers


async def test_without_the_setting_no_page_of_another_origin_reads_anything(gateway: Gateway, ann: Person) -> None:
    for answer in (
        await gateway.client.get("/v1/jobs", headers=ann.headers | {"Origin": STUDIO}),
        await gateway.client.get("/v1/jobs", headers={"Origin": STUDIO}),
        await gateway.client.options("/v1/jobs", headers={"Origin": STUDIO, "Access-Control-Request-Method": "GET"}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]

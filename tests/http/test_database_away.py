"""The database goes away and comes back: 503 quickly, and then it works."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import ADMIN, Gateway, run_gateway

from .conftest import fresh_database
from .line import Line
from .world import TEXT, TEXT_ENDPOINT, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def line(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Line]:
    made = Line(fresh_database(postgres, template))
    await made.mend()
    yield made
    await made.cut()


async def check_503(gateway: Gateway, method: str, path: str, headers: dict[str, str], **more: object) -> None:
    began = time.monotonic()
    answer = await gateway.client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]
    refusal(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - began < 4  # of five that a request may wait for a connection


async def check_503_as_fal(gateway: Gateway, method: str, path: str, headers: dict[str, str]) -> None:
    body = {"prompt": "x"} if method == "POST" else None
    answer = await gateway.client.request(method, f"/fal/{path}", headers=headers, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (503, "unavailable"), path
    assert answer.headers["x-fal-request-id"]  # without it Python takes us for a broken nginx, and repeats


async def test_without_a_database_every_answer_is_503_at_once_and_afterwards_all_is_well(line: Line) -> None:
    async with run_gateway(settings_for(line.dsn), work=False) as gateway:
        ann = await gateway.make_person("admin")
        quota = await gateway.set_quota("2.80", scope="user", scope_id=ann.user_id)
        job = (await gateway.submit(ann)).json()
        await asyncio.gather(
            *(gateway.client.get("/v1/models", headers=ann.headers) for _ in range(20))
        )  # fill the pool
        await line.cut()
        for _ in range(2):
            await check_503(gateway, "POST", TEXT, ann.headers, json={"prompt": "x"})
            await check_503(gateway, "POST", f"{TEXT}/estimate", ann.headers, json={"prompt": "x"})
            await check_503(gateway, "POST", "/v1/teams", ADMIN, json={"name": "x"})
            for path in ("/v1/jobs", f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/events", "/v1/me", "/v1/keys"):
                await check_503(gateway, "GET", path, ann.headers)
            of_job = f"{TEXT_ENDPOINT}/requests/{job['id']}"
            for path in (of_job, f"{of_job}/status", f"{of_job}/status/stream"):
                await check_503_as_fal(gateway, "GET", path, ann.headers)
            await check_503_as_fal(gateway, "PUT", f"{of_job}/cancel", ann.headers)
            for path in (TEXT_ENDPOINT, f"run/{TEXT_ENDPOINT}"):
                await check_503_as_fal(gateway, "POST", path, ann.headers)
            await check_503(gateway, "GET", "/health/ready", {})
            await check_503(gateway, "GET", "/metrics", {})
        assert (await gateway.client.get("/health/live")).status_code == 200
        assert (await gateway.client.get("/docs")).status_code == 200
        await line.mend()
        for _ in range(30):
            assert await gateway.job(ann, job["id"]) == job
        answers = [await gateway.submit(ann) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 402, 402]
        assert [blocking["quota_id"] for blocking in answers[1].json()["quotas"]] == [quota]
        assert (await gateway.client.get("/health/ready")).status_code == 200


async def test_connections_that_broke_while_nobody_asked_are_not_handed_out(line: Line) -> None:
    """A restart of Postgres at night costs nobody a 503 in the morning."""
    async with run_gateway(settings_for(line.dsn), work=False) as gateway:
        ann = await gateway.make_person()
        job = (await gateway.submit(ann)).json()
        await asyncio.gather(*(gateway.client.get("/v1/me", headers=ann.headers) for _ in range(20)))
        await line.cut()
        await line.mend()
        reads = [await gateway.client.get(f"/v1/jobs/{job['id']}", headers=ann.headers) for _ in range(5)]
        assert [answer.status_code for answer in reads] == [200] * 5
        submits = await asyncio.gather(*(gateway.submit(ann) for _ in range(20)))
        assert [answer.status_code for answer in submits] == [202] * 20
        for path in ("/v1/me", "/v1/jobs", "/v1/models", "/health/ready"):
            assert (await gateway.client.get(path, headers=ann.headers)).status_code == 200


async def test_whoever_waits_is_told_when_the_database_goes(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    async with run_gateway(settings_for(line.dsn), work=False) as gateway:
        monkeypatch.setattr(gateway.app.state.rooms.hub, "is_deaf", True)
        ann = await gateway.make_person()
        job_id = (await gateway.submit(ann)).json()["id"]
        waiting = asyncio.create_task(
            gateway.client.get(f"/v1/jobs/{job_id}", headers=ann.headers | {"Prefer": "wait=30"})
        )
        streaming = asyncio.create_task(gateway.client.get(f"/v1/jobs/{job_id}/events", headers=ann.headers))
        await asyncio.sleep(0.3)
        await line.cut()
        refusal(await asyncio.wait_for(waiting, 5), 503, "unavailable")
        stream = await asyncio.wait_for(streaming, 5)
        assert stream.text.count("event: job") == 1


async def test_a_gateway_that_starts_before_its_database_serves_when_it_comes(line: Line) -> None:
    await line.cut()
    async with run_gateway(settings_for(line.dsn)) as gateway:
        await check_503(gateway, "GET", "/health/ready", {})
        await check_503(gateway, "POST", "/v1/teams", ADMIN, json={"name": "x"})
        await line.mend()
        assert (await gateway.client.get("/health/ready")).status_code == 200
        assert (await gateway.submit(await gateway.make_person())).status_code == 202

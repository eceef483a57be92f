"""fal unreachable: nobody is refused, nothing is lost, each job is sent once; and fal at another address."""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import uvicorn

from app.settings import Settings
from tests.conftest import FAL_KEY
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.conftest import SPEED, settings_at
from tests.jobs.hand import until
from tests.sandbox.running import Sandbox, run_sandbox

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _sit_out(database_url: str, seconds: float, submits: int) -> None:
    port = _free_port()
    async with run_gateway(settings_at(database_url, f"http://127.0.0.1:{port}")) as gateway:
        ann = await gateway.make_person()
        jobs = []
        for n in range(submits):
            answer = await gateway.submit(ann, f"boat <{n}>")
            assert answer.status_code == 202
            jobs.append(answer.json()["id"])
            await asyncio.sleep(seconds / submits)
        assert {(await gateway.job(ann, job_id))["status"] for job_id in jobs} <= {"queued", "submitting"}
        with run_sandbox("--port", str(port), "--speed", str(SPEED)) as (sandbox, _):
            ends = await asyncio.gather(*(_end_of(gateway, ann, job_id) for job_id in jobs))
            assert {job["status"] for job in ends} == {"succeeded"}
            sent = Counter(request["input"]["prompt"] for request in sandbox.requests())
            assert sent == {f"boat <{n}>": 1 for n in range(submits)}


async def _end_of(gateway: Gateway, person: Person, job_id: str) -> dict[str, Any]:
    for _ in range(5):
        job = await gateway.job(person, job_id, wait=40)
        if job["finished_at"] is not None:
            break
    return job


async def test_fal_unreachable_for_a_while_refuses_nobody_and_each_job_is_sent_once(database_url: str) -> None:
    await _sit_out(database_url, seconds=1.5, submits=40)


@pytest.mark.slow
async def test_fal_unreachable_for_a_minute_refuses_nobody_and_each_job_is_sent_once(database_url: str) -> None:
    await _sit_out(database_url, seconds=60, submits=300)


async def test_reads_that_fail_for_a_while_lose_nothing(at_sandbox: Settings, sandbox: Sandbox) -> None:
    async with run_gateway(at_sandbox) as gateway:
        ann = await gateway.make_person()
        for call in ("status", "result"):
            sandbox.set_fault(call=call, fault="502-html")
        jobs = [(await gateway.submit(ann, f"boat <{n}>")).json()["id"] for n in range(20)]
        await until(lambda: _status_calls(sandbox) >= 40, seconds=30)
        assert {(await gateway.job(ann, job_id))["status"] for job_id in jobs} <= {"submitted", "running"}
        sandbox.http.delete("/_sandbox/faults")
        async with gateway.wiring.db.plain() as plain:
            await plain.execute("UPDATE jobs SET next_check_at = now()")
        ends = await asyncio.gather(*(gateway.job(ann, job_id, wait=10) for job_id in jobs))
        assert {job["charged_usd"] for job in ends} == {"1.40"}
        assert gateway.app.state.rooms.tracker._troubles == 0


def _status_calls(sandbox: Sandbox) -> int:
    return int(sandbox.http.get("/_sandbox/state").json()["calls"].get("status", 0))


class OtherFal:
    """Another program that speaks fal's queue: full-path URLs, trailing slashes, `/response`, a path prefix."""

    PREFIX = "/proxy/fal"

    def __init__(self) -> None:
        self.looks: dict[str, int] = {}
        self.keys: set[str] = set()
        self.paths: list[str] = []
        self.url = ""
        self._ids = count(1)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        self.keys.add(dict(scope["headers"])[b"authorization"].decode())
        self.paths.append(f"{scope['method']} {scope['path']}")
        code, content = self._answer(scope["method"], scope["path"].removeprefix(self.PREFIX))
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": content.encode()})

    def _answer(self, method: str, path: str) -> tuple[int, str]:
        if method == "POST":
            request_id = f"r{next(self._ids)}"
            self.looks[request_id] = 0
            base = f"{self.url}{path}/requests/{request_id}"
            return 200, (
                f'{{"request_id":"{request_id}","response_url":"{base}/response/","status_url":"{base}/status/",'
                f'"cancel_url":"{base}/cancel/"}}'
            )
        found = re.fullmatch(r"/fal-ai/kling-video/v2\.1/master/[a-z-]+/requests/(r\d+)/(status|response)/", path)
        if not found:
            return 404, '{"detail":"Not Found"}'
        if found[2] == "response":
            return 200, '{"video":{"url":"https://elsewhere.example/boat.mp4"}}'
        self.looks[found[1]] += 1
        words = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
        return 200, f'{{"status":"{words[min(self.looks[found[1]], 3) - 1]}"}}'


@asynccontextmanager
async def _serving(other: OtherFal) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(other, port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    other.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{other.PREFIX}"
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def test_another_program_that_speaks_fals_queue_makes_the_same_journey(database_url: str) -> None:
    other = OtherFal()
    async with _serving(other), run_gateway(settings_at(database_url, other.url)) as gateway:
        ann = await gateway.make_person()
        jobs = [(await gateway.submit(ann, f"boat {n}")).json()["id"] for n in range(3)]
        for job_id in jobs:
            end = await gateway.job(ann, job_id, wait=10)
            assert (end["status"], end["charged_usd"]) == ("succeeded", "1.40")
            assert end["output"] == {"video": {"url": "https://elsewhere.example/boat.mp4"}}
    assert other.keys == {f"Key {FAL_KEY}"}
    assert all(path.split(" ")[1].startswith(f"{other.PREFIX}/fal-ai/kling-video/") for path in other.paths)

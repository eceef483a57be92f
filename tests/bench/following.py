"""How often fal is called, and whether checks happen when they are due."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from app.embedded import EmbeddedPostgres
from tests.bench.load import http, run_load
from tests.bench.speed import environment, load, submits
from tests.bench.stage import Figure, run, seed, serve

POLLERS: Final = 200
POLL_SECONDS: Final = 1.0
RENDER_SECONDS: Final = 8.0
IN_FLIGHT: Final = 5_000
FLIGHT_SECONDS: Final = 45.0


@contextmanager
def sandbox(*options: str) -> Iterator[str]:
    """fal in a box; its URL."""
    command = [sys.executable, "-m", "app.sandbox", "--exit-with", str(os.getpid()), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().removeprefix("sandbox: ").strip()
        process.terminate()


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: dict[str, Any] = json.load(answer)
    return body


def measure_calls(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:
    """200 callers poll one job ten times a second; fal's own count against 2 + time in flight ÷ POLL_SECONDS."""
    keys: list[str] = run(seed(postgres.dsn()))  # type: ignore[assignment]
    shares, most = [], 0
    with sandbox("--queue-seconds", "1", "--render-seconds", str(RENDER_SECONDS)) as fal:
        settings = environment(postgres.dsn(), fal) | {"POLL_SECONDS": str(POLL_SECONDS)}
        with serve("tests.bench.gateway:make()", settings, ready="/health/ready") as gateway:
            for round_number in range(min(rounds, 3)):
                begun = time.monotonic()
                run(_poll_one(gateway.port, keys[round_number]))
                flight = time.monotonic() - begun
                calls = sum(_get(f"{fal}/_sandbox/requests")["requests"][-1]["calls"].values())
                most = max(most, calls)
                shares.append(calls / (2 + flight / POLL_SECONDS))
    return [Figure("calls to fal for a job, share of what is allowed", shares, 1, at_least=False, note=f"{most} calls")]


async def _poll_one(port: int, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    made = await run_load(
        port,
        lambda: http("POST", "/v1/text-to-video", headers, b'{"prompt": "polled"}'),
        callers=1,
        seconds=0.0,
        keep=True,
    )
    request = http("GET", f"/v1/jobs/{json.loads(made.bodies[0])['id']}", headers)
    ended = asyncio.Event()

    async def poll() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not ended.is_set():
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            job = json.loads(await reader.readexactly(length))
            if job["finished_at"] is not None:
                ended.set()
            await asyncio.sleep(0.1)
        writer.close()

    async with asyncio.timeout(60):
        await asyncio.gather(*(poll() for _ in range(POLLERS)))


def measure_checks(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:  # noqa: ARG001  one long flight
    """5,000 jobs in flight at once: how late is the latest check, sampled five times a second; and all end."""
    keys: list[str] = run(seed(postgres.dsn()))  # type: ignore[assignment]
    with (
        sandbox("--queue-seconds", "1", "--render-seconds", str(FLIGHT_SECONDS)) as fal,
        serve("tests.bench.gateway:make()", environment(postgres.dsn(), fal), ready="/health/ready") as server,
    ):
        made = 0
        while made < IN_FLIGHT:
            made += len(load(server, submits(keys), callers=8, seconds=0.5).latencies)
        watched: tuple[list[float], int, int] = run(_watch(postgres.dsn()))  # type: ignore[assignment]
    late, in_flight, unfinished = sorted(watched[0]), *watched[1:]
    return [
        Figure(
            "lateness of the latest check, 5,000 in flight, p99",
            [late[int(len(late) * 0.99)]],
            1,
            unit=" s",
            at_least=False,
            note=f"{made} jobs, at most {in_flight} in flight, {len(late)} samples, worst {late[-1]:.2f} s",
        ),
        Figure("jobs that had not ended when all should have", [unfinished], 0, at_least=False),
    ]


_LATE: Final = """
SELECT coalesce(max(extract(epoch FROM now() - next_check_at)), 0)::float8 AS late,
       count(*) FILTER (WHERE status IN ('submitted', 'running')) AS in_flight, count(*) AS unfinished
FROM jobs WHERE finished_at IS NULL AND status IN ('submitted', 'running', 'submitting', 'queued')
"""


async def _watch(dsn: str) -> tuple[list[float], int, int]:
    connection = await asyncpg.connect(dsn)
    late: list[float] = []
    most = 0
    give_up_at = time.monotonic() + 180
    unfinished = -1
    try:
        while unfinished and time.monotonic() < give_up_at:
            row = (await connection.fetch(_LATE))[0]
            most = max(most, row["in_flight"])
            late.append(max(0.0, row["late"]))
            unfinished = row["unfinished"]
            await asyncio.sleep(0.2)
        return late, most, unfinished
    finally:
        await connection.close()

"""Submits and reads against the bare routes, and what a worker weighs."""

import itertools
import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from app.embedded import EmbeddedPostgres
from tests.bench.load import Load, http, run_load
from tests.bench.stage import Figure, Server, analyse, run, seed, serve

CALLERS: Final = 32
SECONDS: Final = 3.0
BODY: Final = json.dumps({"prompt": "a paper boat crosses a puddle", "duration": "5"}).encode()
BARE: Final = http("POST", "/reserve", {}, json.dumps({"prompt": "a paper boat crosses a puddle"}).encode())
CONSTANT: Final = http("GET", "/constant", {})
NOBODY: Final = "http://127.0.0.1:9"  # fal is away: what is measured is the submit


def environment(dsn: str, fal: str = NOBODY) -> dict[str, str]:
    """The gateway's settings in a bench."""
    urls = {"FAL_QUEUE_URL": fal, "FAL_REST_URL": fal, "FAL_API_URL": f"{fal}/v1"}
    return {"DATABASE_URL": dsn, "FAL_KEY": "bench-key", "LOG_LEVEL": "error"} | urls


def submits(keys: list[str]) -> Callable[[], bytes]:
    """One submit after another, by every user in turn."""
    requests = itertools.cycle(
        [http("POST", "/v1/text-to-video", {"Authorization": f"Bearer {key}"}, BODY) for key in keys]
    )
    return lambda: next(requests)


def load(
    server: Server,
    request: Callable[[], bytes],
    *,
    callers: int = CALLERS,
    seconds: float = SECONDS,
    pause_seconds: float = 0.0,
) -> Load:
    """A run of load in which every answer is a success."""
    made: Load = run(  # type: ignore[assignment]
        run_load(server.port, request, callers=callers, seconds=seconds, pause_seconds=pause_seconds)
    )
    bad = {status: count for status, count in made.statuses.items() if status not in {200, 202}}
    if bad:
        raise RuntimeError(f"answers that are no success: {bad}")
    return made


def measure_submits(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:
    """32 callers over 50 users, four quotas, one hot row, durable; then one caller alone; then with commit_delay."""
    keys: list[str] = run(seed(postgres.dsn()))  # type: ignore[assignment]
    request = submits(keys)
    together: list[float] = []
    alone: list[float] = []
    delayed: list[float] = []
    rates: list[tuple[float, float]] = []
    with (
        serve("tests.bench.bare:app", {"BARE_DSN": postgres.dsn()}, ready="/constant") as bare,
        serve("tests.bench.gateway:make()", environment(postgres.dsn()), ready="/health/ready") as gateway,
    ):
        load(bare, lambda: BARE, seconds=1)
        load(gateway, request, seconds=1)
        run(analyse(postgres.dsn()))
        for _ in range(rounds):
            least, ours = load(bare, lambda: BARE), load(gateway, request)
            together.append(ours.rate / least.rate)
            rates.append((ours.rate, least.rate))
            least, ours = (
                load(bare, lambda: BARE, callers=1, seconds=SECONDS / 2),
                load(gateway, request, callers=1, seconds=SECONDS / 2),
            )
            alone.append(ours.percentile(0.5) / least.percentile(0.5))
        run(_set_commit_delay(postgres.dsn(), 2000))
        for _ in range(rounds):
            least, ours = load(bare, lambda: BARE), load(gateway, request)
            delayed.append(ours.rate / least.rate)
    seen = f"{statistics.median(r for r, _ in rates):.0f}/s against {statistics.median(b for _, b in rates):.0f}/s"
    return [
        Figure("submit, 32 callers, share of the bare route", together, 0.5, note=seen),
        Figure("the same, commit_delay = 2000", delayed, 0.5, note="microseconds that a flush waits for others"),
        Figure("submit alone, p50 as a multiple of the bare route's", alone, 3, at_least=False),
    ]


async def _set_commit_delay(dsn: str, microseconds: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"ALTER SYSTEM SET commit_delay = {microseconds}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


def measure_reads(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:
    """The owner reads its jobs, 32 at once; and every answer is the row as it is now."""
    keys: list[str] = run(seed(postgres.dsn()))  # type: ignore[assignment]
    shares: list[float] = []
    with (
        serve("tests.bench.bare:app", {"BARE_DSN": postgres.dsn()}, ready="/constant") as bare,
        serve("tests.bench.gateway:make()", environment(postgres.dsn()), ready="/health/ready") as gateway,
    ):
        load(gateway, submits(keys), seconds=1)
        run(analyse(postgres.dsn()))
        wanted = [
            http("GET", f"/v1/jobs/{job['id']}", {"Authorization": f"Bearer {key}"})
            for key in keys
            for job in _jobs_of(gateway, key)
        ]
        requests = itertools.cycle(wanted)
        for _ in range(rounds):
            constant, ours = load(bare, lambda: CONSTANT), load(gateway, lambda: next(requests))
            shares.append(ours.rate / constant.rate)
    return [Figure("GET /v1/jobs/{id}, 32 callers, share of a constant", shares, 0.5)]


def _jobs_of(gateway: Server, key: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/v1/jobs", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        jobs: list[dict[str, Any]] = json.load(answer)["data"]
    return jobs


def measure_weight(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:
    """Seconds until ready with Postgres up, and resident memory after 10,000 submits."""
    keys: list[str] = run(seed(postgres.dsn()))  # type: ignore[assignment]
    ready: list[float] = []
    for _ in range(rounds):
        with serve("tests.bench.gateway:make()", environment(postgres.dsn()), ready="/health/ready") as server:
            ready.append(server.ready_seconds)
    with serve("tests.bench.gateway:make()", environment(postgres.dsn()), ready="/health/ready") as gateway:
        made, give_up_at = 0, time.monotonic() + 120
        while made < 10_000 and time.monotonic() < give_up_at:
            made += len(load(gateway, submits(keys), seconds=1).latencies)
        resident = gateway.resident_mib
    return [
        Figure("ready after the start", ready, 2, unit=" s", at_least=False),
        Figure("resident memory of a worker", [resident], 120, unit=" MiB", at_least=False, note=f"{made} submits"),
    ]

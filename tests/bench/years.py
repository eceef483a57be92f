"""Two years of ten million jobs: what reports take, and whether submits, reads and settles are as fast as ever."""

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from app.embedded import EmbeddedPostgres
from tests.bench.load import http
from tests.bench.seeding import JOBS, seed_jobs
from tests.bench.speed import BODY, environment, load, submits
from tests.bench.stage import Figure, Server, analyse, run, seed, serve
from tests.conftest import ADMIN_KEY, settings_for
from tests.ledger.house import Clock, House

ASKED: Final = 10
CSV_JOBS: Final = 1_000_000
SETTLED: Final = 1_500
AT_ONCE: Final = 32
NOT_DURABLE: Final = {"fsync": "off", "max_wal_size": "8GB", "max_connections": "60"}
DURABLE: Final = {"max_connections": "60"}


def measure_years(_postgres: EmbeddedPostgres, rounds: int, *, jobs: int = JOBS) -> list[Figure]:
    """On a server of its own, whose disk is not waited for while it is filled."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder) / "postgres"
        with EmbeddedPostgres(place, settings=NOT_DURABLE) as postgres:
            begun = time.perf_counter()
            postgres.create_database("young")
            dsns = {name: postgres.dsn(name) for name in ("falgate", "young")}
            keys = {name: run(_prepare(dsn, jobs if name == "falgate" else 0, now)) for name, dsn in dsns.items()}
            print(f"{jobs:,} jobs in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        with EmbeddedPostgres(place, settings=DURABLE) as postgres:
            old, young = postgres.dsn(), postgres.dsn("young")
            reports = _measure_reports(old, jobs, now)
            print(*reports, sep="\n", file=sys.stderr, flush=True)
            compared = _compare(old, young, keys, rounds)  # type: ignore[arg-type]
            return [*reports, *compared, _compare_settles(old, young, rounds)]


async def _prepare(dsn: str, jobs: int, now: datetime) -> list[str]:
    keys = await seed(dsn)
    if jobs:
        await seed_jobs(dsn, jobs=jobs, now=now)
    return keys


def _measure_reports(dsn: str, jobs: int, now: datetime) -> list[Figure]:
    month = (now.replace(day=1) - timedelta(days=1)).replace(day=1).date()
    following = now.replace(day=1).date()
    year = month.replace(year=month.year - 1)
    with (
        serve(
            "tests.bench.gateway:make()", environment(dsn) | {"ADMIN_KEY": ADMIN_KEY}, ready="/health/ready"
        ) as gateway,
        httpx.Client(
            base_url=f"http://127.0.0.1:{gateway.port}", headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=120
        ) as client,
    ):
        by_team = _times(client, f"/v1/reports/spend?since={month}&until={following}&group_by=day,team")
        by_user = _times(client, f"/v1/reports/spend?since={year}&until={month}&group_by=user")
        by_tag = _times(client, f"/v1/reports/spend?since={month}&until={following}&group_by=tag.project", 3)
        days = 730 * min(1, CSV_JOBS / jobs)
        rate, lines = _stream(client, f"/v1/reports/jobs.csv?since={(now - timedelta(days=days)).date()}")
        resident = gateway.resident_mib
    note = f"of {jobs:,} jobs, 40 teams, 1,000 users, two years"
    return [
        Figure("spend of a month by day and team", by_team, 100, " ms", at_least=False, note=note),
        Figure("spend of a year by user", by_user, 300, " ms", at_least=False),
        Figure("spend of a month by a tag", by_tag, 5000, " ms", at_least=False, note="from the entries"),
        Figure("jobs.csv, rows a second", [rate], 50_000, note=f"{lines:,} rows"),
        Figure("resident memory after it", [resident], 150, " MiB", at_least=False),
    ]


def _times(client: httpx.Client, path: str, asked: int = ASKED) -> list[float]:
    """Milliseconds, after one that warms up."""
    taken = []
    for _ in range(asked + 1):
        begun = time.perf_counter()
        client.get(path).raise_for_status()
        taken.append((time.perf_counter() - begun) * 1000)
    return taken[1:]


def _stream(client: httpx.Client, path: str) -> tuple[float, int]:
    begun, lines = time.perf_counter(), -1
    with client.stream("GET", path) as answer:
        answer.raise_for_status()
        for piece in answer.iter_raw():
            lines += piece.count(b"\n")
    return lines / (time.perf_counter() - begun), lines


def _compare(old: str, young: str, keys: dict[str, list[str]], rounds: int) -> list[Figure]:
    """Submits and status reads of a gateway on each database, in turn."""
    shares: dict[str, list[float]] = {"submit": [], "read": []}
    with (
        serve("tests.bench.gateway:make()", environment(old), ready="/health/ready") as on_old,
        serve("tests.bench.gateway:make()", environment(young), ready="/health/ready") as on_young,
    ):
        asked: dict[str, tuple[Callable[[], bytes], Callable[[], bytes]]] = {}
        for name, gateway in (("falgate", on_old), ("young", on_young)):
            submit = submits(keys[name])
            _open_windows(gateway, keys[name])
            load(gateway, submit, seconds=2)
            asked[name] = submit, _reads(gateway, keys[name])
        run(analyse(young))
        for _ in range(rounds):
            for number, kind in enumerate(shares):
                rates = [load(on_old, asked["falgate"][number]).rate, load(on_young, asked["young"][number]).rate]
                shares[kind].append(rates[0] / rates[1])
    return [
        Figure("submit there, share of an empty database", shares["submit"], 0.9),
        Figure("status read there, share of an empty database", shares["read"], 0.9),
    ]


def _open_windows(gateway: Server, keys: list[str]) -> None:
    """A quota is new: the first submit in its window counts what came before, and others are answered 503 meanwhile."""
    for key in keys:
        for _ in range(200):
            answer = httpx.post(
                f"http://127.0.0.1:{gateway.port}/v1/text-to-video",
                headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                content=BODY,
                timeout=120,
            )
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)


def _reads(gateway: Server, keys: list[str]) -> Callable[[], bytes]:
    base = f"http://127.0.0.1:{gateway.port}"
    wanted = []
    for key in keys:
        headers = {"Authorization": f"Bearer {key}"}
        jobs = httpx.get(f"{base}/v1/jobs", headers=headers, timeout=10).json()["data"]
        wanted += [http("GET", f"/v1/jobs/{job['id']}", headers) for job in jobs]
    requests = itertools.cycle(wanted)
    return lambda: next(requests)


def _compare_settles(old: str, young: str, rounds: int) -> Figure:
    """Ends of jobs, 32 at once, as the tracker asks for them."""
    shares = []
    rates: list[float] = []
    for _ in range(rounds):
        on_old, on_young = (float(run(_settle(dsn))) for dsn in (old, young))  # type: ignore[arg-type]
        shares.append(on_old / on_young)
        rates.append(on_old)
    rate = f"{statistics.median(rates):.0f} a second"
    return Figure("settle there, share of an empty database", shares, 0.9, note=rate)


async def _settle(dsn: str) -> float:
    """Settles a second."""
    house = House(settings_for(dsn), clock=Clock(datetime.now(UTC)))
    house._names = itertools.count(time.time_ns())
    who = [await house.someone() for _ in range(10)]
    job_ids = await asyncio.gather(*(house.submit(who[number % len(who)]) for number in range(SETTLED)))
    waiting = iter(job_ids)
    begun = time.perf_counter()

    async def settle() -> None:
        for job_id in waiting:
            await house.end(job_id)

    await asyncio.gather(*(settle() for _ in range(AT_ONCE)))
    seconds = time.perf_counter() - begun
    await house.close()
    return SETTLED / seconds

"""Callers of fal's own protocol who wait for their jobs: Python's client asks for a status each 0.1 s (FAL.md 4.1)."""

import itertools
import json
import statistics
import time
from typing import Final

from app.embedded import EmbeddedPostgres
from tests.bench.following import sandbox
from tests.bench.load import Load, http, run_load
from tests.bench.speed import environment, load, submits
from tests.bench.stage import Figure, Server, analyse, run, seed, serve

WAITING: Final = 200
PAUSE_SECONDS: Final = 0.1
SECONDS: Final = 3.0
GOAL_MILLISECONDS: Final = 20.0


def measure_waiting(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:
    """200 callers, each with a job of its own that runs at fal meanwhile; a round before the first warms up."""
    keys: list[str] = run(seed(postgres.dsn()))  # type: ignore[assignment]
    with (
        sandbox("--queue-seconds", "1", "--render-seconds", "600") as fal,
        serve("tests.bench.gateway:make()", environment(postgres.dsn(), fal), ready="/health/ready") as gateway,
    ):
        reads = itertools.cycle([_status_read(gateway, key) for _ in range(WAITING // len(keys)) for key in keys])
        run(analyse(postgres.dsn()))
        runs = [
            load(gateway, lambda: next(reads), callers=WAITING, seconds=SECONDS, pause_seconds=PAUSE_SECONDS)
            for _ in range(rounds + 1)
        ][1:]
    note = f"{statistics.median(each.rate for each in runs):.0f} reads a second"
    half, most = ([each.percentile(share) * 1000 for each in runs] for share in (0.5, 0.99))
    return [
        Figure("status read, 200 waiting callers, p50", half, GOAL_MILLISECONDS, unit=" ms", at_least=False, note=note),
        Figure("status read, 200 waiting callers, p99", most, GOAL_MILLISECONDS, unit=" ms", at_least=False),
    ]


def _status_read(gateway: Server, key: str) -> bytes:
    """The status read of a new job of this key's. Jobs are made over five seconds, not at one moment."""
    time.sleep(5 / WAITING)
    made: Load = run(  # type: ignore[assignment]
        run_load(gateway.port, submits([key]), callers=1, seconds=0.0, keep=True)
    )
    job = json.loads(made.bodies[0])
    path = f"/fal/fal-ai/kling-video/requests/{job['id']}/status?logs=false"
    return http("GET", path, {"Authorization": f"Key {key}"})

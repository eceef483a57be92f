"""How long `falgate reconcile` takes for 100,000 billing events, the first time and again; and how much memory."""

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from app.db import driver_url
from app.embedded import EmbeddedPostgres
from tests.bench.stage import Figure, seed
from tests.sandbox.running import TEXT, Sandbox, run_sandbox

EVENTS: Final = 100_000
CHUNK: Final = 5_000
PERIOD: Final = timedelta(days=30)
DIFFERING: Final = 100  # of so many one is billed otherwise, one not at all, and one is somebody else's

_JOBS: Final = """
INSERT INTO jobs (id, status, model, endpoint, input, seconds, quoted_usd, held_usd, charged_usd, price_id,
                  quota_usage_ids, user_id, team_id, key_id, attempt_id, fal_request_id, created_at, queued_at,
                  finished_at)
SELECT md5('job' || n)::uuid, 'succeeded', 'kling-2.1-master', $4, '{}', 5, 1.40, 0, 1.40, p.id, '{}',
       md5('user' || n % 50)::uuid, md5('team' || n % 5)::uuid, md5('key' || n % 50)::uuid, md5('attempt' || n)::uuid,
       md5('fal' || n)::uuid::text, at, at, at
FROM (SELECT n, $1::timestamptz + n * ($2::interval / $3::int) AS at FROM generate_series(0, $3 - 1) n) t,
     (SELECT id FROM prices LIMIT 1) p
"""
_ATTEMPTS: Final = """
INSERT INTO attempts (id, job_id, sent_at, fal_request_id, fal_key_id)
SELECT attempt_id, id, created_at, fal_request_id, 'the-key' FROM jobs
"""
_ENTRIES: Final = """
INSERT INTO entries (id, job_id, kind, source, amount_usd, seconds, price_id, resolves_id, user_id, team_id, key_id,
                     model, tags, booked_at, job_status)
SELECT CASE WHEN kind = 'hold' THEN j.id ELSE gen_random_uuid() END, j.id, kind, j.id::text, 1.40, 5, j.price_id,
       CASE WHEN kind = 'settle' THEN j.id END, j.user_id, j.team_id, j.key_id, j.model, '{}', j.finished_at,
       CASE WHEN kind = 'settle' THEN j.status END
FROM jobs j CROSS JOIN unnest(ARRAY['hold', 'settle']) AS kind
"""


async def fill(url: str, *, since: datetime, jobs: int = EVENTS) -> None:
    """So many jobs that ended well and were charged 1.40 each, evenly over PERIOD."""
    connection = await asyncpg.connect(driver_url(url))
    try:
        await connection.execute(_JOBS, since, PERIOD, jobs, TEXT)
        await connection.execute(f"{_ATTEMPTS}; {_ENTRIES}; ANALYZE")
    finally:
        await connection.close()


def bill(sandbox: Sandbox, *, since: datetime, events: int = EVENTS) -> None:
    """As many billing events, with differences planted."""
    told = [_event(number, since + number * (PERIOD / events)) for number in range(events)]
    for first in range(0, events, CHUNK):
        answer = sandbox.http.post("/_sandbox/bill", json={"extra": told[first : first + CHUNK]}, timeout=120)
        answer.raise_for_status()


def _event(number: int, at: datetime) -> dict[str, Any]:
    turn = number % DIFFERING
    digest = hashlib.md5(f"{'foreign' if turn == 1 else 'fal'}{number}".encode(), usedforsecurity=False).hexdigest()
    name = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"
    cost = "2.80" if turn == 2 else "1.40"
    return {"request_id": name, "endpoint_id": TEXT, "cost_usd": cost, "units": "5", "timestamp": at.isoformat()}


def measure_reconciling(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:
    """The whole command, from its start to its end, against a sandbox in another process."""
    since = datetime.now(UTC) - PERIOD - timedelta(days=3)
    postgres.create_database("reconciling")
    url = postgres.dsn("reconciling")
    asyncio.run(seed(url))
    asyncio.run(fill(url, since=since))
    with run_sandbox() as (sandbox, _), tempfile.TemporaryDirectory() as folder:
        bill(sandbox, since=since)
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "FAL_KEY": "bench-id:bench-secret",
            "FAL_ADMIN_KEY": "bench-admin:bench-secret",
            "FAL_QUEUE_URL": sandbox.url,
            "FAL_REST_URL": sandbox.url,
            "FAL_API_URL": f"{sandbox.url}/v1",
        }
        first, mib, told = _reconcile(environment, folder)
        again = [_reconcile(environment, folder) for _ in range(max(1, rounds // 2))]
        same = all(out.split("\n")[2:] == told.split("\n")[2:] and "0 new, 0 withdrawn" in out for *_, out in again)
    most = max([mib, *(each[1] for each in again)])
    lists = f"re-run {'identical' if same else 'DIFFERENT'}; {most:.0f} MiB resident at most"
    return [
        Figure(f"reconciling {EVENTS:,} events, seconds", [first], 30, " s", at_least=False, note=lists),
        Figure("the same again, seconds", [each[0] for each in again], 30 if same else 0, " s", at_least=False),
    ]


def _reconcile(environment: dict[str, str], folder: str) -> tuple[float, float, str]:
    """Seconds, MiB resident at most, and what it printed."""
    out = Path(folder) / "out"
    begun = time.perf_counter()
    with out.open("wb") as file:
        command = [sys.executable, "-m", "app.cli", "reconcile"]
        process = subprocess.Popen(command, env=environment, stdout=file)
        _, _, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = 0  # it was waited for above
    return seconds, used.ru_maxrss / 1024, out.read_text(encoding="utf-8")

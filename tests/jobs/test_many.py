"""5,000 jobs in flight at once: every check happens within a second of being due, and nothing is starved."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.conftest import settings_at
from tests.sandbox.running import Sandbox

IN_FLIGHT = 5000
CALLERS = 32
WATCHED_SECONDS = 30

_LATEST = """
SELECT coalesce(max(extract(epoch FROM now() - next_check_at)), 0)::float8 FROM jobs
WHERE status IN ('submitted', 'running') AND next_check_at <= now()
"""


@pytest.mark.slow
async def test_every_check_of_5000_jobs_happens_within_a_second_of_being_due(
    database_url: str, sandbox: Sandbox
) -> None:
    async with run_gateway(settings_at(database_url, sandbox.url, poll_seconds="5")) as gateway:
        ann = await gateway.make_person()
        numbers = iter(range(IN_FLIGHT))
        await asyncio.gather(*(_submit(gateway, ann, numbers) for _ in range(CALLERS)))
        connection = await gateway.wiring.db.connect()
        for _ in range(300):
            if not await connection.fetchval("SELECT count(*) FROM jobs WHERE status <> 'running'"):
                break
            await asyncio.sleep(0.2)
        calls = sandbox.http.get("/_sandbox/state").json()["calls"]["status"]
        lateness = []
        for _ in range(WATCHED_SECONDS * 10):
            lateness.append(await connection.fetchval(_LATEST))
            await asyncio.sleep(0.1)
        fewest = await connection.fetchval("SELECT min(checks) FROM jobs")
        most = await connection.fetchval("SELECT max(checks) FROM jobs")
        await connection.close()
        calls = sandbox.http.get("/_sandbox/state").json()["calls"]["status"] - calls
    print(f"latest {max(lateness):.2f} s, {calls / WATCHED_SECONDS:.0f} calls/s, {fewest} to {most} checks a job")  # noqa: T201
    assert max(lateness) < 1
    assert most - fewest < 8


async def _submit(gateway: Gateway, person: Person, numbers: Iterator[int]) -> None:
    for _ in numbers:
        answer = await gateway.submit(person, "a boat [hang]")
        assert answer.status_code == 202

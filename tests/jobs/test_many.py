"""5,000 jobs in flight at once: each is checked in its turn, nothing is starved; how late the checks are is printed."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.conftest import settings_at
from tests.sandbox.running import Sandbox

IN_FLIGHT = 5000
CALLERS = 32
ROUNDS = 4
HANGS_AFTER_SECONDS = 300

_LATEST = """
SELECT coalesce(max(extract(epoch FROM now() - next_check_at)), 0)::float8 FROM jobs
WHERE status IN ('submitted', 'running') AND next_check_at <= now()
"""
_CHECKED = "SELECT min(j.checks - b.checks), max(j.checks - b.checks) FROM jobs j JOIN before b USING (id)"


@pytest.mark.slow
async def test_each_of_5000_jobs_is_checked_in_its_turn(database_url: str, sandbox: Sandbox) -> None:
    async with run_gateway(settings_at(database_url, sandbox.url, poll_seconds="5")) as gateway:
        ann = await gateway.make_person()
        numbers = iter(range(IN_FLIGHT))
        await asyncio.gather(*(_submit(gateway, ann, numbers) for _ in range(CALLERS)))
        connection = await gateway.wiring.db.connect()
        for _ in range(HANGS_AFTER_SECONDS * 5):
            if not await connection.fetchval("SELECT count(*) FROM jobs WHERE status <> 'running'"):
                break
            await asyncio.sleep(0.2)
        else:
            raise AssertionError("never all running")
        assert await connection.fetchval("SELECT count(*) FROM jobs") == IN_FLIGHT
        calls = sandbox.http.get("/_sandbox/state").json()["calls"]["status"]
        await connection.execute("CREATE TEMPORARY TABLE before AS SELECT id, checks FROM jobs")
        lateness = []
        for _ in range(HANGS_AFTER_SECONDS * 5):
            lateness.append(await connection.fetchval(_LATEST))
            fewest, most = (await connection.fetch(_CHECKED))[0]
            if fewest >= ROUNDS:
                break
            await asyncio.sleep(0.2)
        else:
            raise AssertionError(f"some job was checked {fewest} times only, another {most} times")
        await connection.close()
        calls = sandbox.http.get("/_sandbox/state").json()["calls"]["status"] - calls
    print(f"latest {max(lateness):.2f} s, {calls} calls, {fewest} to {most} checks a job")  # noqa: T201
    assert calls >= IN_FLIGHT * (ROUNDS - 1)  # the last round's calls may still be under way
    assert most <= 2 * ROUNDS


async def _submit(gateway: Gateway, person: Person, numbers: Iterator[int]) -> None:
    for _ in numbers:
        answer = await gateway.submit(person, "a boat [hang]")
        assert answer.status_code == 202

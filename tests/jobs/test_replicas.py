"""Replicas share the work through the rows: each job is sent once, whoever is killed or cut off."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from app.settings import Settings
from tests.conftest import FAL_KEY
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.conftest import POLL_SECONDS
from tests.sandbox.running import Sandbox


@contextmanager
def _process(database_url: str, fal_queue_url: str, **more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    environ = {
        "PATH": os.environ["PATH"],
        "FAL_KEY": FAL_KEY,
        "DATABASE_URL": database_url,
        "FAL_QUEUE_URL": fal_queue_url,
        "POLL_SECONDS": str(POLL_SECONDS),
        **more,
    }
    command = [sys.executable, "-m", "tests.jobs.serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


async def _submit_all(clients: list[httpx.AsyncClient], person: Person, numbers: range) -> list[str]:
    async def submit(n: int) -> str:
        answer = await clients[n % len(clients)].post(
            "/v1/text-to-video", json={"prompt": f"boat <{n}>"}, headers=person.headers
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    return await asyncio.gather(*(submit(n) for n in numbers))


async def _statuses(gateway: Gateway) -> Counter[str]:
    async with gateway.wiring.db.plain() as plain:
        return Counter({r[0]: r[1] for r in await plain.fetch("SELECT status, count(*) FROM jobs GROUP BY 1")})


async def _until(gateway: Gateway, expected: dict[str, int], seconds: float = 20) -> None:
    for _ in range(int(seconds / 0.1)):
        found = await _statuses(gateway)
        if found == expected:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{found} instead of {expected}")


def _sending(gateway: Gateway) -> int:
    """How many jobs this very replica is sending."""
    return len(gateway.app.state.rooms.dispatcher.loop._working)


async def _left_by_the_dead(survivor: Gateway) -> int:
    """How many jobs stay `submitting` when the survivor has sent all that it could."""
    before = None
    for _ in range(600):
        found = await _statuses(survivor)
        if not found["queued"] and not _sending(survivor):
            if before == found["submitting"]:  # twice: what was just claimed may not be in the survivor's hands yet
                return before
            before = found["submitting"]
        await asyncio.sleep(0.1)
    raise AssertionError(f"the survivor does not finish: {found}")


def _sent(sandbox: Sandbox) -> Counter[str]:
    return Counter(request["input"]["prompt"] for request in sandbox.requests())


async def test_two_replicas_send_each_job_once_and_finish_it(at_sandbox: Settings, sandbox: Sandbox) -> None:
    async with run_gateway(at_sandbox) as one, run_gateway(at_sandbox) as other:
        ann = await one.make_person()
        await _submit_all([one.client, other.client], ann, range(60))
        await _until(one, {"succeeded": 60})
    assert _sent(sandbox) == {f"boat <{n}>": 1 for n in range(60)}


async def test_when_one_of_two_replicas_is_killed_the_other_finishes_and_nothing_is_sent_twice(
    database_url: str, at_sandbox: Settings, sandbox: Sandbox
) -> None:
    with _process(database_url, sandbox.url) as (url, process):
        async with (
            run_gateway(at_sandbox) as other,
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as doomed,
        ):
            ann = await other.make_person()
            await _submit_all([doomed, other.client], ann, range(20))
            await _until(other, {"succeeded": 20})
            sandbox.set_fault(call="submit", fault="slow", seconds=2.5)
            await _submit_all([doomed, other.client], ann, range(20, 120))
            for _ in range(400):
                if (await _statuses(other))["submitting"] > _sending(other) > 0:  # both send
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError("never did both send at once")
            process.kill()  # -9
            process.wait()
            sandbox.http.delete("/_sandbox/faults")
            left = await _left_by_the_dead(other)
            assert 0 < left < 100
            await _until(other, {"succeeded": 120 - left, "submitting": left})
            async with other.wiring.db.plain() as plain:  # until the leases end
                await plain.execute("UPDATE jobs SET next_check_at = now() WHERE status = 'submitting'")
            await _until(other, {"succeeded": 120 - left, "unconfirmed": left})
            await _submit_all([other.client], ann, range(120, 121))  # sent after all that could be sent again
            await _until(other, {"succeeded": 121 - left, "unconfirmed": left})
    sent = _sent(sandbox)
    assert set(sent.values()) == {1}
    assert 121 - left <= len(sent) <= 121  # the dead may not have come to send all that it had claimed


async def test_a_killed_replicas_slots_stay_taken_while_fal_may_have_its_jobs(
    database_url: str, at_sandbox: Settings, sandbox: Sandbox
) -> None:
    limit, left, total = 5, 2, 16
    with _process(database_url, sandbox.url, FAL_CONCURRENCY=str(limit)) as (url, process):
        limited = at_sandbox.model_copy(update={"fal_concurrency": limit})
        async with (
            run_gateway(limited) as other,
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as doomed,
        ):
            ann = await other.make_person()
            sandbox.set_clock(speed=40)  # a job takes 0.1 s
            sandbox.set_fault(call="submit", fault="slow", seconds=20)
            other.app.state.rooms.dispatcher._paused_until = float("inf")
            await _submit_all([doomed], ann, range(left))
            await _until(other, {"submitting": left})
            process.kill()  # -9
            process.wait()
            sandbox.http.delete("/_sandbox/faults")
            await asyncio.sleep(0.5)  # what fal got of the dead has ended there
            watching = asyncio.create_task(_most_at_once(sandbox))
            other.app.state.rooms.dispatcher._paused_until = 0.0
            await _submit_all([other.client], ann, range(left, total))
            await _until(other, {"succeeded": total - left, "submitting": left})
            async with other.wiring.db.plain() as plain:  # until the leases end
                await plain.execute("UPDATE jobs SET next_check_at = now() WHERE status = 'submitting'")
            await _until(other, {"succeeded": total - left, "unconfirmed": left})
            watching.cancel()
            assert 0 < await watching <= limit - left
    assert max(_sent(sandbox).values()) == 1


async def _most_at_once(sandbox: Sandbox) -> int:
    """The most jobs that fal was seen to have at once, until cancelled."""
    most = 0
    async with httpx.AsyncClient(base_url=sandbox.url, trust_env=False) as client:
        with suppress(asyncio.CancelledError):
            while True:
                statuses = (await client.get("/_sandbox/state")).json()["statuses"]
                most = max(most, statuses.get("IN_QUEUE", 0) + statuses.get("IN_PROGRESS", 0))
                await asyncio.sleep(0.01)
    return most


async def test_connections_that_postgres_ends_in_the_middle_lose_nothing(
    at_sandbox: Settings, sandbox: Sandbox
) -> None:
    sandbox.set_clock(speed=20)  # a job takes 0.2 s
    async with run_gateway(at_sandbox) as gateway:
        ann = await gateway.make_person()
        outside = await gateway.wiring.db.connect()
        accepted = 0
        for _ in range(6):
            for _ in range(5):
                answer = await gateway.submit(ann, "a boat")
                assert answer.status_code in {202, 503}
                accepted += answer.status_code == 202
            await asyncio.sleep(0.13)
            await outside.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await outside.close()
        await asyncio.sleep(0.1)  # asyncpg has heard of it: from now on nobody meets a dead connection
        await _until(gateway, {"succeeded": (await _statuses(gateway)).total()})
        found = await _statuses(gateway)
        assert found.total() >= accepted > 0
        waiting = await gateway.client.post(
            "/v1/text-to-video", json={"prompt": "a boat"}, headers=ann.headers | {"Prefer": "wait=10"}
        )
        assert waiting.status_code == 200
    assert sum(_sent(sandbox).values()) == found.total() + 1

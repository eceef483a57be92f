"""Direct calls whose caller has gone, by hanging up or with its gateway: the same call again waits for the same job."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.hand import Clock, until

from .asking import TEXT, jobs_of, submit, until_remembered

pytestmark = pytest.mark.asyncio(loop_scope="package")
RUN = f"run/{TEXT}"


def waiting(gateway: Gateway) -> int:
    return len(gateway.app.state.repeats.waits._lines)


async def call(gateway: Gateway, person: Person) -> asyncio.StreamWriter:
    """A direct call on a connection of its own, which has been accepted and waits."""
    before = waiting(gateway)
    parsed = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(parsed.hostname, parsed.port)
    body = json.dumps({"prompt": "a boat"}).encode()
    head = [
        f"POST /fal/{RUN} HTTP/1.1", "Host: gateway", f"Authorization: Key {person.secret}",
        "Content-Type: application/json", f"Content-Length: {len(body)}", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(head).encode() + body)
    await until(lambda: waiting(gateway) == before + 1)
    return writer


async def hang_up(gateway: Gateway, writer: asyncio.StreamWriter) -> None:
    before = waiting(gateway)
    writer.transport.abort()
    await until(lambda: waiting(gateway) == before - 1)


async def ids(gateway: Gateway, person: Person) -> list[str]:
    """Of this person's jobs, oldest first."""
    page = await gateway.client.get("/v1/jobs", headers=person.headers)
    return [job["id"] for job in reversed(page.json()["data"])]


async def cancel(gateway: Gateway, person: Person, *job_ids: str) -> None:
    for job_id in job_ids:
        await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=person.headers)


async def told_of(*asking: "asyncio.Task[httpx.Response]") -> list[str]:
    return [answer.headers["x-fal-request-id"] for answer in await asyncio.gather(*asking)]


async def ask(gateway: Gateway, person: Person) -> "asyncio.Task[httpx.Response]":
    """An equal call, once it waits."""
    before = waiting(gateway)
    asking = asyncio.create_task(submit(gateway, person, endpoint=RUN))
    await until(lambda: waiting(gateway) == before + 1)
    return asking


@asynccontextmanager
async def doomed(database: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A replica that writes nothing more when it ends, as if it had been killed."""
    async with run_gateway(settings_for(database), clock=clock, work=False) as running:

        async def nothing(*_: Any) -> None:
            """It is dead."""

        monkeypatch.setattr(running.app.state.repeats.waits, "_write", nothing)
        yield running


async def test_a_kill_of_the_gateway_that_waits_buys_no_second_job(
    gateway: Gateway, shared_database: str, clock: Clock, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with doomed(shared_database, clock, monkeypatch) as running:
        writer = await call(running, ann)
        (first,) = await ids(gateway, ann)
        meanwhile = await ask(gateway, ann)  # its gateway lives: this is another job
        assert await jobs_of(gateway, ann) == 2
        writer.close()
    again = await ask(gateway, ann)
    assert await jobs_of(gateway, ann) == 2
    await cancel(gateway, ann, *await ids(gateway, ann))
    assert (await told_of(again, meanwhile))[0] == first
    await until_remembered(gateway, ann, 0)


async def test_each_repeat_has_the_job_of_a_caller_who_has_gone(gateway: Gateway, twin: Gateway, ann: Person) -> None:
    callers = [await call(gateway, ann) for _ in range(3)]
    jobs = await ids(gateway, ann)
    for writer in callers[:2]:
        await hang_up(gateway, writer)
    await until_left_alone(gateway, ann, 2)
    again = [await ask(one, ann) for one in (twin, gateway)]
    assert await ids(gateway, ann) == jobs
    another = await ask(twin, ann)
    assert await jobs_of(gateway, ann) == 4
    await cancel(gateway, ann, *await ids(gateway, ann))
    assert await told_of(*again) == jobs[:2]
    assert not {*await told_of(another)} & {*jobs}
    callers[2].close()
    await until(lambda: not waiting(gateway))


async def until_left_alone(gateway: Gateway, person: Person, count: int) -> None:
    statement = "SELECT count(*) FROM direct_calls WHERE user_id = $1 AND waited_by IS NULL"
    for _ in range(500):
        async with gateway.wiring.db.plain() as plain:
            if await plain.fetchval(statement, person.user_id[5:]) == count:
                return
        await asyncio.sleep(0.01)
    raise AssertionError(statement)


async def test_it_is_waited_for_however_long_it_takes_and_25_minutes_more(
    gateway: Gateway, ann: Person, clock: Clock
) -> None:
    await hang_up(gateway, await call(gateway, ann))
    (job_id,) = await ids(gateway, ann)
    clock.move(hours=2)
    again = await ask(gateway, ann)
    assert await jobs_of(gateway, ann) == 1
    again.cancel()
    await until(lambda: not waiting(gateway))
    await until_left_alone(gateway, ann, 1)
    await cancel(gateway, ann, job_id)
    clock.move(minutes=26)
    asking = await ask(gateway, ann)
    assert await jobs_of(gateway, ann) == 2
    await cancel(gateway, ann, *await ids(gateway, ann))
    assert await told_of(asking) != [job_id]


async def test_who_was_answered_is_never_told_again(gateway: Gateway, ann: Person) -> None:
    asking = [await ask(gateway, ann) for _ in range(2)]
    await cancel(gateway, ann, *await ids(gateway, ann))
    assert len({*await told_of(*asking)}) == 2
    await until_remembered(gateway, ann, 0)
    last = await ask(gateway, ann)
    assert await jobs_of(gateway, ann) == 3
    await cancel(gateway, ann, *await ids(gateway, ann))
    await last

"""A gateway turned by hand under FAL_CONCURRENCY, and what tests of fair release do with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.fal import Completed
from tests.conftest import settings_for
from tests.gateway import Person
from tests.jobs.hand import Hand, by_hand

DONE = Completed(None, None)


@asynccontextmanager
async def limited(database_url: str, concurrency: int) -> AsyncIterator[Hand]:
    """A gateway turned by hand under FAL_CONCURRENCY; its person sees and cancels the jobs of all."""
    async with by_hand(settings_for(database_url, fal_concurrency=str(concurrency))) as hand:
        hand.person = await hand.gateway.make_person("admin")
        yield hand


async def ask(hand: Hand, person: Person, count: int = 1) -> list[str]:
    """Ask for so many videos; the jobs' ids, oldest first."""
    jobs = []
    for _ in range(count):
        answer = await hand.gateway.submit(person)
        assert answer.status_code == 202, answer.text
        jobs.append(str(answer.json()["id"]))
        await asyncio.sleep(0.001)  # ids sort by the millisecond
    return jobs


async def end(hand: Hand, *job_ids: str) -> None:
    """These jobs, which fal has, succeed."""
    for job_id in job_ids:
        hand.fal.always["status", (await hand.row(job_id))["fal_request_id"]] = DONE
    await hand.check()
    assert {await hand.status(job_id) for job_id in job_ids} == {"succeeded"}


async def in_flight(hand: Hand) -> list[str]:
    """The jobs that fal has, oldest first."""
    rows = await hand.sql("SELECT id FROM jobs WHERE status IN ('submitting', 'submitted', 'running') ORDER BY id")
    return [f"job_{row['id'].hex}" for row in rows]

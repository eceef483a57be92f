"""kill -9 at every moment that matters: before, inside and after each transaction and each call to fal."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from app.accounts.last_used import LastUsed
from app.db import Database, Plain
from app.fal import Completed
from app.jobs.rooms import Rooms
from tests.jobs.hand import Hand, until

DONE = Completed(None, None)
MOST_MOMENTS = 60


class Killed(BaseException):
    """The process is no more: nothing catches this."""


class Mortality:
    """Counts the moments of a process, and kills it at one of them."""

    def __init__(self) -> None:
        self.dies_at = MOST_MOMENTS
        self.moments = 0

    @property
    def is_dead(self) -> bool:
        return self.moments > self.dies_at

    def moment(self) -> None:
        self.moments += 1
        if self.is_dead:
            raise Killed

    def be_born(self, *, dies_at: int) -> None:
        self.dies_at, self.moments = dies_at, 0


@pytest.fixture
def mortality(monkeypatch: pytest.MonkeyPatch) -> Mortality:
    mortal = Mortality()
    begin, plain = Database.begin_plain, Database.plain

    @asynccontextmanager
    async def mortal_begin(db: Database, **how: Any) -> AsyncIterator[Plain]:
        mortal.moment()
        async with begin(db, **how) as tx:
            yield tx
            mortal.moment()  # before COMMIT
        mortal.moment()

    @asynccontextmanager
    async def mortal_plain(db: Database) -> AsyncIterator[Plain]:
        mortal.moment()
        async with plain(db) as connection:
            yield connection

    monkeypatch.setattr(Database, "begin_plain", mortal_begin)
    monkeypatch.setattr(Database, "plain", mortal_plain)
    return mortal


async def test_a_gateway_killed_at_any_moment_sends_no_job_twice_and_loses_none(
    hand: Hand, mortality: Mortality
) -> None:
    ends = []
    for moment in range(MOST_MOMENTS):
        job_id, prompt = await hand.submit(f"boat {moment}"), f"boat {moment}"
        hand.rooms = Rooms(hand.gateway.wiring, LastUsed())
        mortality.be_born(dies_at=moment)
        await _live(hand, mortality)
        survived = not mortality.is_dead
        await _bury(hand.rooms)
        hand.rooms = Rooms(hand.gateway.wiring, LastUsed())
        mortality.be_born(dies_at=10**9)
        for _ in range(3):
            hand.fal.answer("status", DONE)
            await hand.lose_leases()
            await hand.send()
            await hand.check()
        job = await hand.job(job_id)
        sent = [about for call, about in hand.fal.calls if call == "submit" and about.endswith(prompt)]
        ends.append((job["status"], len(sent)))
        if job["status"] == "unconfirmed":
            assert job["held_usd"] == "1.40"
            assert await hand.resolve(job_id, outcome="void") == 200
        kinds = [kind for kind, _, _ in await hand.entries(job_id)]
        assert kinds in (["hold", "settle"], ["hold", "void"]), moment
        await hand.assert_books_agree()
        if survived:
            break
    assert survived
    assert set(ends) == {("succeeded", 1), ("unconfirmed", 0), ("unconfirmed", 1)}
    assert ends[0] == ends[-1] == ("succeeded", 1)


async def _live(hand: Hand, mortality: Mortality) -> None:
    """A life: the job is claimed and sent, seen running, and seen done; or until death."""
    hand.fal.during["submit"] = hand.fal.during["status"] = hand.fal.during["result"] = _moments(mortality)
    for turn in (hand.rooms.dispatcher.loop, hand.rooms.tracker.loop, hand.rooms.tracker.loop):
        if mortality.is_dead:
            break
        if turn is hand.rooms.tracker.loop and hand.fal.count("status") % 2:
            hand.fal.answer("status", DONE)
        outside = await hand.gateway.wiring.db.connect()
        await outside.execute(
            "UPDATE jobs SET next_check_at = now() WHERE status IN ('queued', 'submitted', 'running')"
        )
        await outside.close()
        with suppress(Killed):
            await turn._turn(64)
        await until(lambda turn=turn: mortality.is_dead or not turn._working, seconds=30)  # type: ignore[misc]
    hand.fal.during.clear()
    hand.fal.script.clear()


def _moments(mortality: Mortality) -> Callable[[], Awaitable[None]]:
    async def pass_by() -> None:
        mortality.moment()

    return pass_by


async def _bury(rooms: Rooms) -> None:
    tasks = [*rooms.dispatcher.loop._working, *rooms.tracker.loop._working]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

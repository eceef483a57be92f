"""A loop that claims work: it never dies, never rests while there is work, and stops in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.loop import Loop
from tests.jobs.hand import until


@asynccontextmanager
async def running(loop: Loop) -> AsyncIterator[None]:
    task = asyncio.create_task(loop.run())
    yield
    await loop.stop(within_seconds=1)
    await task


@pytest.mark.parametrize("error", [OSError("away"), ValueError("wrong"), KeyError("odd"), TimeoutError()])
async def test_a_turn_that_raises_is_followed_by_another(error: Exception) -> None:
    turns = []

    async def turn(_free: int) -> int:
        turns.append(1)
        if len(turns) < 3:
            raise error
        return 0

    async with running(Loop("test", turn, places=1, rest_seconds=0.01)):
        await until(lambda: len(turns) > 3)


async def test_work_that_raises_takes_no_other_work_with_it() -> None:
    done = []

    async def work(n: int) -> None:
        await asyncio.sleep(0.01)
        if n % 2:
            raise RuntimeError(n)
        done.append(n)

    todo = list(range(10))

    async def turn(free: int) -> int:
        taken = [todo.pop() for _ in range(min(free, len(todo)))]
        for n in taken:
            loop.start(work(n))
        return len(taken)

    loop = Loop("test", turn, places=2, rest_seconds=3600)  # a free place is filled without a rest, or never
    async with running(loop):
        await until(lambda: len(done) == 5)
    assert sorted(done) == [0, 2, 4, 6, 8]


async def test_a_wake_during_a_turn_is_not_forgotten() -> None:
    turns = []

    async def turn(_free: int) -> int:
        turns.append(1)
        if len(turns) == 1:
            loop.wake()
        return 0

    loop = Loop("test", turn, places=1, rest_seconds=3600)
    async with running(loop):
        await until(lambda: len(turns) == 2)
        loop.wake()
        await until(lambda: len(turns) == 3)
    assert len(turns) == 3


async def test_a_stop_waits_for_the_turn_under_way_and_for_what_it_starts() -> None:
    done = []
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append(1)

    async def turn(_free: int) -> int:
        begun.set()
        await may_go_on.wait()
        loop.start(work())
        return 1

    loop = Loop("test", turn, places=1)
    task = asyncio.create_task(loop.run())
    await begun.wait()
    stopping = asyncio.create_task(loop.stop(within_seconds=60))
    await until(lambda: loop.is_stopping)
    may_go_on.set()
    await stopping
    assert done == [1]
    await task


async def test_work_that_outlasts_a_stop_is_cancelled_and_undone_before_the_stop_returns() -> None:
    undone = []
    begun = asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            undone.append(1)

    async def turn(_free: int) -> int:
        return 0

    loop = Loop("test", turn, places=1)
    loop.start(work())
    await begun.wait()
    await loop.stop(within_seconds=0.01)
    assert undone == [1]

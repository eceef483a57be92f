"""How many reports a process makes at once, so that they never have all connections to the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from app.accounts.callers import Actor
from app.problems import Problem

_DESKS: Final = 2
_LEFT: Final = 2  # one that all streams read with in turn, and one for jobs
_PATIENCE_SECONDS: Final = 15.0


class TooManyReports(Problem):
    """As many reports are being made as this gateway makes at once, or as it makes at once for one user.

    Nothing is wrong with the report you asked for. Ask again after the seconds named in `Retry-After`, or when a report
    of yours that is still on its way has ended.
    """

    status = 503

    def __init__(self) -> None:
        super().__init__("Ask again in a moment.", headers={"Retry-After": "10"})


def desks_within(connections: int) -> int:
    """How many desks there are to a pool of so many connections, three at least: each of them takes one."""
    return min(_DESKS, connections - _LEFT)


class Desks:
    """Those of one process; whoever finds none free waits a while, in turn.

    Each asker has so many of them (`of_one`) at most, so that nobody who reads slowly keeps the others waiting.
    """

    def __init__(self, most: int, *, of_one: int = 1, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._free = asyncio.Semaphore(most)
        self._of_one = of_one
        self._theirs: WeakValueDictionary[object, asyncio.Semaphore] = WeakValueDictionary()
        self._patience_seconds = patience_seconds

    @asynccontextmanager
    async def taken(self, actor: Actor) -> AsyncIterator[None]:
        """A desk, until the block ends. Raises TooManyReports."""
        asker = actor.name if actor.caller is None else actor.caller.user_id
        theirs = self._theirs.setdefault(asker, asyncio.Semaphore(self._of_one))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._patience_seconds):
                    await held.enter_async_context(theirs)
                    await held.enter_async_context(self._free)
            except TimeoutError:
                raise TooManyReports from None
            yield

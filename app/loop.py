"""A loop that claims what is due and works on it, so much at a time, until it is told to stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from app.db import is_database_away

log = logging.getLogger("falgate.loop")

_LONGEST_BACKOFF_SECONDS: Final = 2.0  # Postgres that is back finds us at work within 5 s, dispatch and track together
_UNDO_SECONDS: Final = 0.5


class Loop:
    """Calls `turn` again and again: with the places that are free, at once while it finds work, else after a rest.

    `turn(free)` starts at most `free` pieces of work with `start` and returns how many. The database being away is
    waited out; any other exception is logged, and the loop goes on.
    """

    def __init__(
        self, name: str, turn: Callable[[int], Awaitable[int]], *, places: int, rest_seconds: float = 0.25
    ) -> None:
        self._name = name
        self._turn = turn
        self._places = places
        self._rest_seconds = rest_seconds
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._has_left = asyncio.Event()
        self._has_left.set()
        self._working: set[asyncio.Task[None]] = set()

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._stop.is_set()

    def wake(self) -> None:
        """There is work: do not finish the rest."""
        self._wake.set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Work beside the loop; its exceptions are the loop's to log."""
        task = asyncio.create_task(self._guarded(work))
        self._working.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if len(self._working) >= self._places:
            self._wake.set()
        self._working.discard(task)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  one piece of work must not take the others with it
            self._report(error)

    def _report(self, error: Exception) -> None:
        if is_database_away(error):
            log.warning("%s: the database is away (%s)", self._name, type(error).__name__)
        else:
            log.error("%s failed", self._name, exc_info=error)

    async def run(self) -> None:
        """For ever, until `stop`."""
        self._has_left.clear()
        backoff = self._rest_seconds
        try:
            while not self.is_stopping:
                self._wake.clear()
                free = self._places - len(self._working)
                try:
                    found = await self._turn(free) if free > 0 else 0
                except Exception as error:  # noqa: BLE001  a loop that dies would lose everything that comes after
                    self._report(error)
                    backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
                    await _wait(self._stop, backoff)
                    continue
                backoff = self._rest_seconds
                if not found:
                    await _wait(self._wake, self._rest_seconds)
        finally:
            self._has_left.set()

    def leave(self) -> None:
        """Claim nothing more; what is under way goes on."""
        self._stop.set()
        self._wake.set()

    async def stop(self, *, within_seconds: float) -> None:
        """Claim nothing more; let what is under way end, for so long; cancel the rest, and see it undone."""
        self.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._has_left.wait()  # the turn under way may still start what it claimed
                while self._working:
                    await asyncio.wait(set(self._working))
        for task in self._working:
            task.cancel()
        if self._working:
            await asyncio.wait(set(self._working), timeout=_UNDO_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)

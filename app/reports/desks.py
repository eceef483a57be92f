"""How many reports a process makes at once, so that they never have all connections to the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from app.problems import Problem

DESKS: Final = 2
"""Of a pool of three connections at least: one is left for jobs."""
_PATIENCE_SECONDS: Final = 15.0


class TooManyReports(Problem):
    """As many reports are being made as this gateway makes at once.

    Nothing is wrong with the report you asked for. Ask again after the seconds named in `Retry-After`.
    """

    status = 503

    def __init__(self) -> None:
        super().__init__("Ask again in a moment.", headers={"Retry-After": "10"})


class Desks:
    """Those of one process; whoever finds none free waits a while, in turn."""

    def __init__(self, most: int = DESKS, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._free = asyncio.Semaphore(most)
        self._patience_seconds = patience_seconds

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """A desk, until the block ends. Raises TooManyReports."""
        try:
            await asyncio.wait_for(self._free.acquire(), self._patience_seconds)
        except TimeoutError:
            raise TooManyReports from None
        try:
            yield
        finally:
            self._free.release()

"""How long requests may last: one look at all of them each second, which costs none of them a timer."""

import asyncio
import math
from typing import Final

SWEEP_SECONDS: Final = 1.0


class Patience:
    """That for one request. When it is over, the request's task is cancelled, once."""

    __slots__ = ("_loop", "due_at", "is_over", "task")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        self.is_over = False
        self.last(seconds)

    def last(self, seconds: float) -> None:
        """Begin anew, for so long; `math.inf`: without end."""
        self.due_at = self._loop.time() + seconds

    def forgive(self) -> None:
        """The cancellation is dealt with: the task goes on, to say so."""
        self.is_over = False
        self.due_at = math.inf
        if self.task is not None:
            self.task.uncancel()


class Watch:
    """Everybody's patience, in one process."""

    def __init__(self) -> None:
        self._open: set[Patience] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> Patience:
        """A request begins; `end` it."""
        patience = Patience(seconds)
        self._open.add(patience)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        return patience

    def end(self, patience: Patience) -> None:
        """It has been answered."""
        self._open.discard(patience)
        patience.task = None  # it leads back to the request: a circle of each would be left to Python's collector

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for patience in self._open:
            if patience.due_at < now and patience.task is not None:
                patience.is_over = True
                patience.due_at = math.inf
                patience.task.cancel()
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep) if self._open else None

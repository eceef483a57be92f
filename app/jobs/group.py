"""Group commit: what arrives while a transaction is on its way goes together in the next. No timer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from prometheus_client import Histogram

from app.db import is_database_away

PATIENCE_SECONDS: Final = 4.0
_AGAIN_SECONDS: Final = 0.5

Member = TypeVar("Member")
Outcome = TypeVar("Outcome")


class Group(Generic[Member, Outcome]):
    """Runs members in arrival order, at most `most` together and one run at a time.

    `run` answers one outcome a member; an Exception among the outcomes is that member's own. When a run raises for
    a reason other than the database being away, its members are run again one by one, so that one that cannot be
    served does not take the others with it. While a run takes longer than `PATIENCE_SECONDS` the database is locked
    or silent: those who wait for the next one are told so (TimeoutError); nothing was done for them.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Member]], Awaitable[Sequence[Outcome | Exception]]],
        *,
        most: int = 64,
        sizes: Histogram | None = None,
    ) -> None:
        self._run = run
        self._most = most
        self._sizes = sizes
        self._waiting: deque[tuple[Member, asyncio.Future[Outcome]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._impatience: asyncio.TimerHandle

    async def __call__(self, member: Member) -> Outcome:
        """This member's outcome, or its exception. A caller that gives up does not undo what was run."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, future))
        if self._runner is None or self._runner.done():
            # a context of its own: what it logs belongs to no one request
            self._runner = asyncio.create_task(self._drain(), context=Context())
        return await future

    async def _drain(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            if self._sizes is not None:
                self._sizes.observe(len(batch))
            self._impatience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._send_away)
            try:
                await self._serve(batch)
            finally:
                self._impatience.cancel()

    def _send_away(self) -> None:
        self._impatience = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._send_away)
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(TimeoutError("the database does not answer"))

    async def _serve(self, batch: Sequence[tuple[Member, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._run([member for member, _ in batch])
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the members
            if len(batch) > 1 and not is_database_away(error):
                for one in batch:
                    await self._serve([one])
                return
            outcomes = [error] * len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

"""News of jobs: told to every replica by NOTIFY, so that a caller may wait anywhere. It may be lost: waits re-read."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import UUID, uuid4

from app.db import Database, Plain, is_database_away

log = logging.getLogger("falgate.hub")

CHANNEL: Final = "falgate_jobs"
REREAD_SECONDS: Final = 15.0
REREAD_DEAF_SECONDS: Final = 1.0
_IDS_A_MESSAGE: Final = 180  # NOTIFY takes 8,000 bytes
_HEARD_WITHIN_SECONDS: Final = 5.0
_LISTEN_AGAIN_SECONDS: Final = 60.0  # a connection may be dead without a word: say hello again
_RECONNECT_SECONDS: Final = 1.0


class Hub:
    """Tells of changed jobs after their commit, and wakes whoever waits for one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._news: set[UUID] = set()
        self._news_came = asyncio.Event()
        self._heard_self = asyncio.Event()
        self._hello = uuid4().hex
        self.is_deaf = True
        """Whether NOTIFY does not reach us: not yet, not now, or never (a pooler in transaction mode)."""
        self._has_warned = False

    @property
    def comment_seconds(self) -> float:
        """How long an event stream may be silent (Contract: a comment every 15 s)."""
        return REREAD_SECONDS

    @property
    def reread_seconds(self) -> float:
        """How long a wait may trust that it was told."""
        return REREAD_DEAF_SECONDS if self.is_deaf else REREAD_SECONDS

    def announce(self, job_ids: Sequence[UUID]) -> None:
        """Tell, soon, everybody who waits for one of these jobs. Call it after the commit."""
        self._wake(job_ids)
        self._news.update(job_ids)
        self._news_came.set()

    @asynccontextmanager
    async def watching(self, job_id: UUID) -> AsyncIterator[asyncio.Event]:
        """An event that is set at each news of the job; clear it before you read."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _wake(self, job_ids: Sequence[UUID]) -> None:
        for job_id in job_ids:
            for event in self._waiting.get(job_id, ()):
                event.set()

    def wake_all(self) -> None:
        """Whoever waits re-reads."""
        self._wake(list(self._waiting))

    async def tell_for_ever(self) -> None:
        """One task a process: what was announced meanwhile goes out together."""
        while True:
            await self._news_came.wait()
            await self.tell()

    async def tell(self) -> None:
        """Tell what has been announced so far. Never raises: whoever is not told re-reads."""
        self._news_came.clear()
        news = [job_id.hex for job_id in self._news]
        self._news.clear()
        try:
            async with self._db.plain() as plain:
                for start in range(0, len(news), _IDS_A_MESSAGE):
                    message = " ".join(news[start : start + _IDS_A_MESSAGE])
                    await plain.execute("SELECT pg_notify($1, $2)", CHANNEL, message)
        except Exception as error:  # noqa: BLE001  a task that dies would tell of nothing ever after
            _report(error, "could not tell of %d changed jobs; whoever waits will re-read", len(news))

    async def listen_for_ever(self) -> None:
        """One connection a process, outside the pool; after each reconnect everybody re-reads."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  a task that dies would leave us deaf ever after
                if not (self.is_deaf and is_database_away(error)):  # that has been said
                    _report(error, "the listening connection was lost; connecting again")
            self.is_deaf = True
            self.wake_all()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await self._db.connect()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(CHANNEL, self._heard)
            self.wake_all()
            while not lost.is_set():
                await self._check_hearing(connection)
                with suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), _LISTEN_AGAIN_SECONDS)
        finally:
            with suppress(Exception):
                await connection.close(timeout=1)

    async def _check_hearing(self, connection: Plain) -> None:
        """Send ourselves one message; not hearing it is worth one warning."""
        self._heard_self.clear()
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, self._hello, timeout=_HEARD_WITHIN_SECONDS)
        try:
            await asyncio.wait_for(self._heard_self.wait(), _HEARD_WITHIN_SECONDS)
            self.is_deaf = False
        except TimeoutError:
            if not self._has_warned:
                log.warning(
                    "NOTIFY does not come through (a pooler in transaction mode?): waiting callers re-read each second"
                )
            self.is_deaf = self._has_warned = True

    def _heard(self, _connection: object, _pid: int, _channel: str, message: object) -> None:
        if message == self._hello:
            self._heard_self.set()
            return
        with suppress(ValueError):
            self._wake([UUID(hex=part) for part in str(message).split()])


def _report(error: Exception, message: str, *figures: int) -> None:
    if is_database_away(error):
        log.warning(message, *figures)
    else:
        log.error(message, *figures, exc_info=error)

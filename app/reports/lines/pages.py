"""Large reports, a page at a time: no connection and no snapshot is held while a caller takes what it was sent."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.accounts.callers import Caller, find_caller
from app.db import Database, is_database_away
from app.http import STALL_SECONDS, Streamed
from app.reports.csv import MEDIA_TYPE
from app.reports.desks import Desks

log = logging.getLogger("falgate.reports")

PAGE_LINES: Final = 5_000
"""Some 2 MB, and 50 ms of a connection."""
STREAMS: Final = 8
"""Of one process: each may have a page in memory that its caller has not taken yet."""
STREAMS_OF_ONE: Final = 3

_NIL: Final = UUID(int=0)
_FIRST_SLICE: Final = timedelta(hours=1)
_LONGEST_SLICE: Final = timedelta(days=1)
_SHORTEST_SLICE: Final = timedelta(milliseconds=1)
_OPEN: Final = "SELECT greatest($1::timestamptz, (SELECT b.open_since FROM books b)) + interval '1 microsecond'"

Pages = AsyncGenerator[bytes, None]
"""The lines of a CSV, some thousand at a time; the header comes with the first."""


class Streams:
    """Those of one process: how many there are at once, and the one connection that they read with in turn."""

    def __init__(self) -> None:
        self.desks = Desks(STREAMS, of_one=STREAMS_OF_ONE)
        self._reading = asyncio.Semaphore(1)

    async def read(self, db: Database, sql: str, *values: Any) -> Any:
        """The one row of a page's statement."""
        async with self._reading, db.plain() as plain:
            return await plain.fetchrow(sql, *values)

    async def is_still(self, db: Database, caller: Caller, secret_hash: bytes, *, now: datetime) -> bool:
        """Whether this secret opens as much as when the report began."""
        async with self._reading, db.reading() as tx:
            found = await find_caller(tx, secret_hash, now=now)
        return found is not None and (found.role, found.team_id) == (caller.role, caller.team_id)


@dataclass(frozen=True, slots=True)
class ByJob:
    """A statement whose rows are in order of jobs' ids.

    `$1` is the id that it begins after, `$2` the one that it ends before, `$3` how many lines at most, then `values`.
    It answers `(text, lines, last_id)`; `text` NULL when there is none.
    """

    sql: str
    values: Sequence[Any]
    first: UUID
    end: UUID


@dataclass(frozen=True, slots=True)
class ByBooking:
    """A statement over entries in order of `(booked_at, id)`.

    `$1` and `$2` are the moment and the id that it begins after, `$3` the moment it ends before, `$4` how many lines at
    most, then `values`. It answers `(text, lines, last_at, last_id)`; `text` NULL when there is none.
    Parts of it are SQL_SLICE and SQL_LAST.
    """

    sql: str
    values: Sequence[Any]
    since: datetime
    until: datetime


SQL_SLICE: Final = "e.booked_at >= $1 AND e.booked_at < $3 AND (e.booked_at, e.id) > ($1, $2)"
SQL_LAST: Final = """(SELECT booked_at FROM page ORDER BY booked_at DESC, id DESC LIMIT 1) AS last_at,
       (SELECT id FROM page ORDER BY booked_at DESC, id DESC LIMIT 1) AS last_id"""


async def pages_by_job(db: Database, streams: Streams, asked: ByJob, *, header: bytes) -> Pages:
    """Each page begins where the one before it ended, by the index of their ids."""
    after = UUID(int=max(asked.first.int - 1, 0))
    while True:
        page = await streams.read(db, asked.sql, after, asked.end, PAGE_LINES, *asked.values)
        yield header + (page["text"] or b"")
        header = b""
        if page["lines"] < PAGE_LINES:
            return
        after = page["last_id"]


async def pages_by_booking(db: Database, streams: Streams, asked: ByBooking, *, header: bytes) -> Pages:
    """A slice of time after the other: however few of its entries a caller may see, a page's statement is short.

    A slice is as long as a page's worth of entries takes, so that what is read for a page is little more than it.
    """
    moment, after, length = asked.since, _NIL, _FIRST_SLICE
    while moment < asked.until:
        end = min(moment + length, asked.until)
        page = await streams.read(db, asked.sql, moment, after, end, PAGE_LINES, *asked.values)
        if header or page["lines"]:
            yield header + (page["text"] or b"")
            header = b""
        if page["lines"] < PAGE_LINES:
            moment, after = end, _NIL
            if page["lines"] <= PAGE_LINES // 2:
                length = min(length * 2, _LONGEST_SLICE)
        else:
            length = max(page["last_at"] - moment, _SHORTEST_SLICE)
            moment, after = page["last_at"], page["last_id"]
    if header:
        yield header


async def open_end(db: Database, *, now: datetime) -> datetime:
    """The end of what has been booked until now; a closed month may have moved that into the time to come."""
    async with db.plain() as plain:
        found: datetime = await plain.fetchval(_OPEN, now)
    return found


class CsvResponse(Streamed):
    """A CSV that is read while it is sent. Broken off when reading fails: never ended as if it were complete."""

    def __init__(self, pages: Pages, *, name: str, stopping: asyncio.Event, held: AsyncExitStack) -> None:
        headers = {"Content-Type": MEDIA_TYPE, "Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(pages, stopping=stopping, headers=headers)
        self._held = held

    async def end(self) -> None:
        """Its desk is free."""
        await self._held.aclose()

    def tell(self, error: BaseException) -> None:
        """One line for a caller that does not read or may not any more, or a database that is away."""
        if isinstance(error, TimeoutError) and not is_database_away(error):
            log.info("a caller took nothing of a report for %.0f s", STALL_SECONDS)
        elif isinstance(error, NoLongerTheirs):
            log.info("a report broke off: %s", error)
        elif is_database_away(error):
            log.warning("a report broke off on its way to a caller: %s", type(error).__name__)
        else:
            raise error


class NoLongerTheirs(Exception):  # noqa: N818  a fact
    """Its caller's key was revoked meanwhile, or may see less."""

    def __init__(self) -> None:
        super().__init__("its caller's key does not open it any more")


async def begun(pages: Pages, *, is_theirs: Callable[[], Awaitable[bool]]) -> Pages:
    """The same pages, the first of which has been read: what fails there is answered as a problem.

    Each other is preceded by the question whether the caller may still see it.
    """
    first = await anext(pages)

    async def going_on() -> Pages:
        yield first
        async for page in pages:
            if not await is_theirs():
                raise NoLongerTheirs
            yield page

    return going_on()

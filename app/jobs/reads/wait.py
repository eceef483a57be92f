"""Waiting for a job: at any replica, told by NOTIFY, re-reading in case it was not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from app.accounts.callers import Credential, RoleForbidden
from app.db import is_database_away
from app.fal import MOST_LINES
from app.jobs.reads.read import Asked, Seen
from app.jobs.rooms import Rooms
from app.problems import Problem

RETRY_MILLISECONDS: Final = 3000


async def wait_until_ended(rooms: Rooms, credential: Credential, job_id: UUID, *, seconds: float) -> Seen:
    """The job when it has ended, or as it is after so many seconds. Raises as `Reader.read` does."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    async with rooms.hub.watching(job_id) as news:
        while True:
            news.clear()
            seen = await rooms.reader.read(asked_now(rooms, credential, job_id))
            left = give_up_at - loop.time()
            if seen.is_ended or left <= 0 or rooms.stopping.is_set():
                return seen
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left, rooms.hub.reread_seconds))


async def stream_events(rooms: Rooms, credential: Credential, job_id: UUID, first: Seen) -> AsyncIterator[bytes]:
    """Server-sent events: the job at once, then at each change, until it ends or may no longer be read.

    What its model writes comes in events of their own, from the first line on, and before the end that it led to.
    """
    loop = asyncio.get_running_loop()
    async with rooms.hub.watching(job_id) as news:
        news.set()  # what changed between the first read and now was told to nobody
        seen, shown, said_at = first, 0, loop.time()
        lines: Sequence[str] = ()
        told, has_looked = 0, False
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        while True:
            events = [format_sse_event(data_str=line, event="log") for line in lines]
            if seen.version > shown:
                shown = seen.version
                events.append(format_sse_event(data_str=seen.body, event="job", id=str(seen.version)))
            if events:
                yield b"".join(events)
                said_at = loop.time()
            if (seen.is_ended and has_looked) or rooms.stopping.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), rooms.hub.reread_seconds)
            if loop.time() - said_at >= rooms.hub.comment_seconds:
                yield KEEPALIVE_COMMENT
                said_at = loop.time()
            news.clear()
            try:
                asked = asked_now(rooms, credential, job_id)
                if asked.grant is not None and asked.grant.expires_at <= asked.now:
                    return
                seen, lines = await rooms.reader.read(asked), await _read_lines(rooms, asked, told)
                told, has_looked = told + len(lines), True
            except Problem:
                return
            except Exception as error:
                if not is_database_away(error):
                    raise
                return  # the caller connects again


async def _read_lines(rooms: Rooms, asked: Asked, told: int) -> Sequence[str]:
    """What was written since the first `told` lines; nothing where the caller may see the job but not its log."""
    try:
        return await rooms.log_reader.read(asked, after=told, most=MOST_LINES)
    except RoleForbidden:
        return ()


def asked_now(rooms: Rooms, credential: Credential, job_id: UUID | None) -> Asked:
    """What cannot be an id is asked for all the same: whoever has no key must not learn what an id looks like."""
    now: datetime = rooms.wiring.clock()
    return Asked(credential.secret_hash, job_id or UUID(int=0), now, credential.grant)

"""The status body of fal's protocol (FAL.md 1.3), and its stream (FAL.md 1.4)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import from_json, to_json

from app.compat.ends import read_end
from app.compat.paths import alias_of
from app.db import is_database_away
from app.ids import show
from app.jobs.reads.glance import Glance
from app.jobs.rooms import Rooms
from app.jobs.states import ENDED
from app.problems import Problem

IN_QUEUE: Final = "IN_QUEUE"
IN_PROGRESS: Final = "IN_PROGRESS"
COMPLETED: Final = "COMPLETED"


def urls_of(origin: str, endpoint: str, job_id: UUID) -> dict[str, str]:
    """The three URLs of a job, at this gateway; `origin` has no slash at its end."""
    result = f"{origin}/fal/{alias_of(endpoint)}/requests/{show('job', job_id)}"
    return {"response_url": result, "status_url": f"{result}/status", "cancel_url": f"{result}/cancel"}


def status_word(glance: Glance) -> str:
    """Fal's word for where a job stands; there is none for a failure, nor for what nobody can tell."""
    if glance.status in ENDED:
        return COMPLETED
    if glance.status == "running" or (glance.status == "unconfirmed" and glance.has_started):
        return IN_PROGRESS
    return IN_QUEUE


def status_body(job_id: UUID, glance: Glance, urls: dict[str, str]) -> bytes:
    """The body as both clients need it: the key `logs` always but in the queue, and there a position always."""
    status = status_word(glance)
    body: dict[str, Any] = {"status": status, "request_id": show("job", job_id), **urls}
    if status == IN_QUEUE:
        return to_json({**body, "queue_position": glance.queue_position or 0})
    body["logs"] = None if glance.entries is None else [from_json(entry) for entry in glance.entries]
    if status == COMPLETED:
        body["metrics"] = {"inference_time": glance.inference_seconds}
        if glance.error is not None:
            end = read_end(glance.error, glance.fal_reply)
            body |= {"error": end.error, "error_type": end.error_type}
    return to_json(body)


async def stream_status(
    rooms: Rooms, job_id: UUID, look: Callable[[], Awaitable[Glance]], urls: dict[str, str]
) -> AsyncIterator[bytes]:
    """Server-sent events: the status body at once, then when it is another; closed after COMPLETED.

    Closed too when the caller may no longer read it, or the gateway ends: both clients ask again.
    """
    loop = asyncio.get_running_loop()
    said, said_at = b"", loop.time()
    async with rooms.hub.watching(job_id) as news:
        while True:
            news.clear()
            try:
                glance = await look()
            except Problem:
                return
            except Exception as error:
                if not is_database_away(error):
                    raise
                return
            body = status_body(job_id, glance, urls)
            if body != said:
                yield format_sse_event(data_str=body.decode())
                said, said_at = body, loop.time()
            elif loop.time() - said_at >= rooms.hub.comment_seconds:
                yield KEEPALIVE_COMMENT
                said_at = loop.time()
            if glance.status in ENDED or rooms.stopping.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), rooms.hub.reread_seconds)

"""A job's video through the gateway: who may see it, and what is answered when there is none."""

from functools import partial
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app import logs
from app.accounts.access import credential_of
from app.accounts.callers import KeyUnknown
from app.http import PlainRoute
from app.ids import parse, show
from app.jobs.ends.adjust import JobNotEnded
from app.jobs.reads.reach import NOT_FOUND_DETAIL, sql_reached
from app.jobs.reads.read import Asked
from app.jobs.reads.wait import asked_now
from app.jobs.rooms import Rooms, rooms_of
from app.jobs.routes.schema import CONTENT, CONTENT_PARAMETERS, CONTENTS, JOB_ID, KEY_OR_TOKEN
from app.outputs.ranges import read_range
from app.outputs.response import VideoResponse
from app.outputs.rows import SQL_HAS_VIDEO, sql_video
from app.outputs.serving import Video, Wanted, find_link, open_video
from app.problems import InvalidInput, NotFound, Problem, responses

plain = APIRouter(route_class=PlainRoute, tags=["jobs"])

_FIND: Final = f"""
SELECT c.key_id, c.is_stale, j.user_id = c.user_id AS is_own, j.end_user,
       j.status, j.finished_at IS NOT NULL AS is_ended, j.payload_erased_at IS NOT NULL AS is_erased,
       {SQL_HAS_VIDEO} AS has_video, j.expires_at, {sql_video("url")} AS url, {sql_video("content_type")} AS told_type,
       o.path, o.content_type, o.size_bytes, o.sha256
FROM (SELECT $1::bytea, $2::uuid) AS r (hash, job_id)
{sql_reached("$3")}
LEFT JOIN outputs o ON o.job_id = j.id AND o.stored_at IS NOT NULL
"""  # noqa: S608  every part is ours


class VideoMissing(Problem):
    """The job has ended and there is no video: it failed, was canceled, or its model gave none.

    `GET /v1/jobs/{id}` shows how it ended (`status`, `error`) and what it cost.
    """

    status = 404


class VideoErased(Problem):
    """The video of this job has been erased, with its input and its output, and cannot be had back.

    That was asked for, or it was older than this gateway keeps them. What the job cost stays in the ledger.
    """

    status = 410


@plain.head("/v1/jobs/{id}/content", include_in_schema=False)  # noqa: FAST003  a plain route reads its own path
@plain.get(
    "/v1/jobs/{id}/content",
    operation_id="get_job_content",
    summary="A job's video",
    description=CONTENT,
    responses=CONTENTS | responses(401, 403, 404, 409, 410, 416, 422, 429, 502, 503),
    openapi_extra={"parameters": [JOB_ID, *CONTENT_PARAMETERS], "security": KEY_OR_TOKEN},
)
async def get_content(request: Request) -> Response:
    """The video itself, or where it is."""
    rooms = rooms_of(request)
    job_id = parse("job", request.path_params["id"])
    logs.job_id.set(None if job_id is None else show("job", job_id))
    credential = credential_of(request, rooms.wiring, job_id=job_id, in_query=True, for_content=True)
    video = await _find_video(rooms, asked_now(rooms, credential, job_id))
    if _wants_link(request):
        link = await find_link(rooms.wiring, video)
        if link is not None:
            return RedirectResponse(link, status_code=302)
    wanted = Wanted(
        is_head=request.method == "HEAD",
        byte_range=read_range(request.headers.get("range")),
        if_range=_sendable(request.headers.get("if-range")),
    )
    rooms.seats.take(credential)
    give_back = partial(rooms.seats.give_back, credential)
    try:
        content = await open_video(rooms.wiring, video, wanted)
    except BaseException:
        give_back()
        raise
    return VideoResponse(content, stopping=rooms.stopping, give_back=give_back)


async def _find_video(rooms: Rooms, asked: Asked) -> Video:
    """Key, role and owner are checked by the statement that finds it.

    Raises KeyUnknown, NotFound (not there, or not theirs), JobNotEnded, VideoMissing or VideoErased.
    """
    async with rooms.wiring.db.plain() as connection:
        row = await connection.fetchrow(_FIND, asked.secret_hash, asked.job_id, asked.now)
    if row is None or row["key_id"] is None:
        raise KeyUnknown
    if row["is_stale"]:
        rooms.last_used.saw(row["key_id"])
    if row["status"] is None or not asked.shows(is_own=row["is_own"], end_user=row["end_user"]):
        raise NotFound(NOT_FOUND_DETAIL)
    return _video(asked.job_id, row)


def _video(job_id: UUID, row: Any) -> Video:
    if not row["is_ended"]:
        raise JobNotEnded(
            f"The job is {row['status']}, and has no video yet: wait for its end.", job_status=row["status"]
        )
    if row["is_erased"]:
        raise VideoErased("Ask for a new video: this one is gone for good.")
    if not row["has_video"]:
        raise VideoMissing(f"The job has {row['status']}, and has no video.", job_status=row["status"])
    names = ("url", "told_type", "expires_at", "path", "content_type", "size_bytes", "sha256")
    return Video(job_id=job_id, **{name: row[name] for name in names})


def _wants_link(request: Request) -> bool:
    asked = request.query_params.getlist("redirect")
    if asked not in ([], ["0"], ["1"]):
        raise InvalidInput([{"parameter": "redirect", "detail": "must be 1, or left out"}])
    return asked == ["1"]


def _sendable(header: str | None) -> str | None:
    return header if header and header.isascii() and header.isprintable() else None

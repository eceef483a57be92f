"""The route of a job's log."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from app import logs
from app.accounts.access import credential_of
from app.http import JsonRoute, Listing, json_response
from app.ids import parse, show
from app.jobs.reads.read import Asked
from app.jobs.reads.wait import asked_now
from app.jobs.rooms import InRooms
from app.jobs.routes.schema import JOB_ID, KEY_OR_TOKEN, LOGGED
from app.problems import InvalidInput, responses

router = APIRouter(route_class=JsonRoute, tags=["jobs"])

_CURSOR: Final = re.compile(r"[0-9]{1,6}")


async def _readable(request: Request, rooms: InRooms) -> Asked:
    """The job that is asked about, once this caller may read it. Raises as `Reader.read` does, and TokenUnknown."""
    job_id = parse("job", request.path_params["id"])
    logs.job_id.set(None if job_id is None else show("job", job_id))
    asked = asked_now(rooms, credential_of(request, rooms.wiring, job_id=job_id), job_id)
    await rooms.reader.read(asked)
    return asked


@router.get(
    "/v1/jobs/{id}/logs",  # noqa: FAST003
    operation_id="list_job_logs",
    summary="What the model wrote",
    responses=LOGGED | responses(401, 403, 404, 422, 503),
    openapi_extra={"parameters": [JOB_ID], "security": KEY_OR_TOKEN},
)
async def get_logs(asked: Annotated[Asked, Depends(_readable)], rooms: InRooms, listing: Listing) -> Response:
    """**Oldest first**, unlike other lists. Many models write nothing; of one job 1,000 lines are kept."""
    cursor = listing.cursor or "0"
    if not _CURSOR.fullmatch(cursor):
        raise InvalidInput([{"parameter": "cursor", "detail": "must be a next_cursor of this list"}])
    after = int(cursor)
    entries = await rooms.log_reader.read(asked, after=after, most=listing.limit + 1)
    has_more = len(entries) > listing.limit
    next_cursor = f'"{after + listing.limit}"' if has_more else "null"
    return json_response(f'{{"data":[{",".join(entries[: listing.limit])}],"next_cursor":{next_cursor}}}')

"""The route of a job's log."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from app import logs
from app.accounts.callers import read_credential
from app.http import JsonRoute, Listing, Page, json_response
from app.ids import parse, show
from app.jobs.log_reading import LogEntry
from app.jobs.read import Asked
from app.jobs.reach import NOT_FOUND_DETAIL
from app.jobs.rooms import InRooms
from app.jobs.schema import JOB_ID
from app.problems import InvalidInput, NotFound, responses

router = APIRouter(route_class=JsonRoute, tags=["jobs"])

_LONGEST_CURSOR: Final = 9


async def _readable(request: Request, rooms: InRooms) -> Asked:
    """The job that is asked about, which this caller may read. Raises as `Reader.read` does."""
    job_id = parse("job", request.path_params["id"])
    now = rooms.wiring.clock()
    credential = read_credential(
        request.scope["headers"], settings=rooms.wiring.settings, tokens=rooms.wiring.tokens, now=now, job_id=job_id
    )
    if job_id is not None:
        logs.job_id.set(show("job", job_id))
    asked = Asked(credential.secret_hash, job_id or parse("job", f"job_{0:032x}"), now, credential.grant)
    await rooms.reader.read(asked)
    return asked


@router.get(
    "/v1/jobs/{id}/logs",  # noqa: FAST003
    operation_id="list_job_logs",
    summary="What the model wrote",
    responses={200: {"model": Page[LogEntry]}} | responses(401, 403, 404, 422, 503),
    openapi_extra={"parameters": [JOB_ID], "security": [{"key": []}]},
)
async def get_logs(asked: Annotated[Asked, Depends(_readable)], rooms: InRooms, listing: Listing) -> Response:
    """As fal's log has it, **oldest first**, unlike other lists. Many models write nothing. At most 1,000 lines."""

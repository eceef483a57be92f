"""`POST /v1/jobs/{id}/adjustments`: for finance."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from app import logs
from app.accounts.access import require_role
from app.accounts.callers import Actor
from app.http import JsonRoute
from app.ids import parse
from app.jobs.ends.adjust_by_hand import AdjustmentBody, create_adjustment
from app.jobs.reads.reach import NOT_FOUND_DETAIL
from app.jobs.rooms import InRooms
from app.jobs.submits.request import read_idempotency_key
from app.ledger.shapes import Entry
from app.problems import InvalidInput, NotFound, responses

router: Final = APIRouter(route_class=JsonRoute, tags=["jobs"])

_Bookkeeper = Annotated[Actor, Depends(require_role("finance", "admin"))]
_MADE_BEFORE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "It had been made before, under this Idempotency-Key.", "model": Entry}
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Repeated with the same body it answers 200 with the entry that was made first.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


@router.post(
    "/v1/jobs/{id}/adjustments",
    operation_id="create_adjustment",
    summary="Correct what a job was charged",
    status_code=201,
    responses=_MADE_BEFORE | responses(401, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra={"parameters": [_IDEMPOTENCY_KEY]},
)
async def post_adjustment(
    id: str,  # noqa: A002  the Contract's name
    body: AdjustmentBody,
    actor: _Bookkeeper,
    rooms: InRooms,
    request: Request,
    response: Response,
) -> Entry:
    """For finance, with a note, once the job has ended. It is booked now, in the open month, unless you name one."""
    job_id = parse("job", id)
    if job_id is None:
        raise NotFound(NOT_FOUND_DETAIL)
    logs.job_id.set(id)
    faults: list[dict[str, str]] = []
    key = read_idempotency_key(request, faults)
    if faults:
        raise InvalidInput(faults)
    entry, is_repeated = await create_adjustment(rooms, actor, job_id, body, idempotency_key=key)
    if is_repeated:
        response.status_code = 200
        response.headers["Idempotent-Replayed"] = "true"
    return entry

"""The route of a job's entries, explained."""

from typing import Final

from fastapi import APIRouter

from app import logs
from app.accounts.access import Calling
from app.http import JsonRoute, Listing
from app.ids import parse, show
from app.jobs.reads.reach import NOT_FOUND_DETAIL
from app.problems import InvalidInput, NotFound, responses
from app.reports.explanation.explain import explain_job
from app.reports.explanation.shapes import ExplainedEntries
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["jobs"])


@router.get(
    "/v1/jobs/{id}/entries",
    operation_id="list_job_entries",
    summary="What a job cost, and why",
    responses=responses(401, 403, 404, 422, 503),
)
async def get_entries(id: str, caller: Calling, wired: Wired, listing: Listing) -> ExplainedEntries:  # noqa: A002
    """Each entry of its ledger: what was held, charged or given back, and why; and what all of it comes to.

    The explanation names the price, what fal billed, and every quota's window that the job was held in.
    """
    after = parse("entry", listing.cursor) if listing.cursor is not None else None
    if listing.cursor is not None and after is None:
        raise InvalidInput([{"parameter": "cursor", "detail": "must be a next_cursor of this list"}])
    job_id = parse("job", id)
    logs.job_id.set(None if job_id is None else show("job", job_id))
    if job_id is None:
        raise NotFound(NOT_FOUND_DETAIL)
    async with wired.db.plain() as plain:
        return await explain_job(plain, job_id, caller=caller, limit=listing.limit, after=after)

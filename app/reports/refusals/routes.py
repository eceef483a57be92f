"""The route of the report of refusals."""

from typing import Final

from fastapi import APIRouter, Request, Response

from app.accounts.access import AnyActor
from app.http import JsonRoute
from app.jobs.rooms import InRooms
from app.problems import responses
from app.reports.desks import Desks
from app.reports.formats import WITH_TOTAL, answered, json_or_csv, wants_csv
from app.reports.parameters import FORMAT, SINCE, UNTIL
from app.reports.period import Faults
from app.reports.refusals.report import read_asked, read_refusals
from app.reports.refusals.shapes import GROUP_BY, RefusalReport, write_csv, write_json
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["reports"])


@router.get(
    "/v1/reports/refusals",
    operation_id="get_refusals_report",
    summary="What was refused",
    responses=json_or_csv(RefusalReport, WITH_TOTAL) | responses(401, 403, 422, 503),
    openapi_extra={"parameters": [SINCE, UNTIL, GROUP_BY, FORMAT]},
)
async def get_refusals(request: Request, actor: AnyActor, wired: Wired, rooms: InRooms) -> Response:
    """How often submits were refused, by which quota or for what: your own; a lead's team's; for finance and admin all.

    By whichever door they came; an estimate is none. They are counted by hours of UTC, and an hour belongs to the
    period and the day that it begins in. The counts are written once a second, each replica its own: those of another
    may be missing for that long. What is refused before anybody looks whose key it is (too many requests that wait,
    the database away) is not counted, nor is what a stranger asks.
    """
    query = request.query_params
    faults: Faults = []
    as_csv = wants_csv(query.getlist("format"), request.headers.get("accept", ""), faults)
    asked = read_asked(query.multi_items(), now=wired.clock(), zone=wired.settings.zone, faults=faults)
    await rooms.refusals.flush(wired.db)
    desks: Desks = request.app.state.desks
    async with desks.taken(actor):
        lines = await read_refusals(wired.db, asked, actor=actor, now=wired.clock())
    report = write_csv(asked, lines) if as_csv else write_json(asked, lines)
    return answered(report, as_csv=as_csv, name="refusals.csv")

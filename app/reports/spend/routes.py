"""The route of the report of spend."""

from typing import Final

from fastapi import APIRouter, Request, Response

from app.accounts.access import AnyActor
from app.http import JsonRoute
from app.problems import responses
from app.reports.desks import Desks
from app.reports.formats import WITH_TOTAL, answered, json_or_csv, wants_csv
from app.reports.parameters import FORMAT, SINCE, UNTIL
from app.reports.period import Faults
from app.reports.spend.report import read_asked, read_spend
from app.reports.spend.shapes import GROUP_BY, SpendReport
from app.reports.spend.written import CsvReport, JsonReport, file_name
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["reports"])


@router.get(
    "/v1/reports/spend",
    operation_id="get_spend_report",
    summary="What was spent",
    responses=json_or_csv(SpendReport, WITH_TOTAL) | responses(401, 403, 422, 503),
    openapi_extra={"parameters": [SINCE, UNTIL, GROUP_BY, FORMAT]},
)
async def get_spend(request: Request, actor: AnyActor, wired: Wired) -> Response:
    """What was charged, what is still held, seconds and jobs: your own; a lead's team's; for finance and admin all.

    A line for each group that something happened in: periods in order, then what was charged most. Each entry counts
    on the day of TIMEZONE that it was booked, so a job that is charged after midnight counts as accepted on one day
    and as charged and succeeded on the next. Teams, users and keys are those that the job was made with.
    """
    query = request.query_params
    faults: Faults = []
    as_csv = wants_csv(query.getlist("format"), request.headers.get("accept", ""), faults)
    asked = read_asked(query.multi_items(), now=wired.clock(), zone=wired.settings.zone, faults=faults)
    report = CsvReport(asked) if as_csv else JsonReport(asked)
    desks: Desks = request.app.state.desks
    async with desks.taken(actor):
        total = await read_spend(wired.db, asked, actor=actor, take=report.take)
    return answered(report.written(total), as_csv=as_csv, name=file_name(asked))

"""`GET /v1/reports/reconciliation`: what is kept of fal's bill beside what we charged; fal is not asked."""

from contextlib import AsyncExitStack
from tempfile import SpooledTemporaryFile
from typing import Annotated, BinaryIO, Final, cast

from fastapi import APIRouter, Depends, Request, Response

from app.accounts.access import require_role
from app.accounts.callers import Actor
from app.http import JsonRoute
from app.jobs.rooms import rooms_of
from app.problems import responses
from app.reports.desks import Desks
from app.reports.fal_bill.asked import Asked, cursor_of, read_asked
from app.reports.fal_bill.lists import Lines, Sum, read_all_lines, read_lines
from app.reports.fal_bill.shapes import (
    LIST,
    ReconciliationReport,
    ReconciliationRun,
    ReconciliationSum,
    ReconciliationSums,
    show_line,
)
from app.reports.fal_bill.written import write_csv
from app.reports.formats import json_or_csv, wants_csv
from app.reports.lines.pages import CsvResponse, Pages
from app.reports.parameters import FORMAT, SINCE, UNTIL, parameter
from app.reports.period import Faults
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["reports"])

_EITHER: Final = "JSON, by pages, or CSV: a header and all lines."
_IN_MEMORY: Final = 1_000_000  # bytes; the rest is a file
_CHUNK: Final = 65_536
_SINCE: Final = {**SINCE, "description": "A date, which begins at its first instant in TIMEZONE, or a moment."}
_UNTIL: Final = {**UNTIL, "description": "The first date or moment that is no longer part of it; default: now."}
_LIMIT: Final = parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "Of JSON; CSV has all lines."
)
_CURSOR: Final = parameter("cursor", {"type": "string"}, "`next_cursor` of the page before.")


@router.get(
    "/v1/reports/reconciliation",
    operation_id="get_reconciliation_report",
    summary="fal's bill and ours",
    responses=json_or_csv(ReconciliationReport, "JSON, by pages, or CSV: a header and all lines.")
    | responses(401, 403, 422, 503),
    openapi_extra={"parameters": [_SINCE, _UNTIL, LIST, _LIMIT, _CURSOR, FORMAT]},
)
async def get_reconciliation(
    request: Request, actor: Annotated[Actor, Depends(require_role("finance", "admin"))], wired: Wired
) -> Response:
    """Each fal request billed or charged in this time (default: the last 35 days), on one of five lists.

    `matched`: fal billed what we charged. `differs`: it billed something else. `ours_only`: we charged for it, and fal,
    asked two days later, had billed nothing. `fal_only`: it is no job of ours, so somebody uses the FAL_KEY elsewhere.
    `pending`: too early to say.

    Told from what the last runs read of fal's bill (`last_run`): those of `falgate reconcile`, which can also adjust
    what differs, and one a day where FAL_ADMIN_KEY is set.
    """
    query = request.query_params
    faults: Faults = []
    as_csv = wants_csv(query.getlist("format"), request.headers.get("accept", ""), faults)
    asked = read_asked(query.multi_items(), now=wired.clock(), zone=wired.settings.zone, faults=faults)
    desks: Desks = request.app.state.desks
    async with desks.taken(actor):
        if as_csv:
            return await _csv(request, wired, asked)
        found = await read_lines(
            wired.db, asked.since, asked.until, name=asked.name, after=asked.after, limit=asked.limit
        )
    report = _report(asked, found).model_dump_json()
    return Response(report, media_type="application/json", headers={"Vary": "Accept"})


async def _csv(request: Request, wired: Wired, asked: Asked) -> Response:
    """Written before the first byte is sent: a caller, however slow, holds no connection to the database."""
    file = cast("BinaryIO", SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115  closed when the answer ends
    try:
        await write_csv(read_all_lines(wired.db, asked.since, asked.until, name=asked.name), file)
    except BaseException:
        file.close()
        raise
    held = AsyncExitStack()
    held.callback(file.close)
    answer = CsvResponse(_chunks(file), name="reconciliation.csv", stopping=rooms_of(request).stopping, held=held)
    answer.headers["Vary"] = "Accept"
    return answer


async def _chunks(file: BinaryIO) -> Pages:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk


def _report(asked: Asked, found: Lines) -> ReconciliationReport:
    run = found.last_run
    figures = run and run["figures"]
    return ReconciliationReport(
        data=[show_line(line) for line in found.lines],
        next_cursor=cursor_of(found.lines[-1]) if found.has_more else None,
        total=ReconciliationSums(**{name: _sum(each) for name, each in found.sums.items()}),
        last_run=None if run is None else ReconciliationRun(**run, events=figures and figures.get("events")),
        since=asked.since,
        until=asked.until,
    )


def _sum(each: Sum) -> ReconciliationSum:
    return ReconciliationSum(requests=each.requests, ours_usd=each.ours_usd, fal_usd=each.fal_usd)

"""`/v1/reports/jobs.csv`, `/v1/reports/focus.csv`: every job, every charge; sent while they are read."""

from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from app.accounts.access import AnyActor
from app.accounts.callers import Actor, credentials
from app.http import JsonRoute
from app.jobs.rooms import rooms_of
from app.problems import responses
from app.reports.calendar import stamp
from app.reports.csv import MEDIA_TYPE
from app.reports.lines import focus, jobs
from app.reports.lines.pages import CsvResponse, Pages, Streams, begun, open_end, pages_by_booking, pages_by_job
from app.reports.parameters import SINCE, UNTIL, parameter
from app.reports.period import Period

router: Final = APIRouter(route_class=JsonRoute, tags=["reports"])

_MILLISECOND: Final = timedelta(milliseconds=1)  # the precision of ids
_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A header, then a line each; broken off, and never ended, when it cannot be read to its end.",
        "content": {MEDIA_TYPE.partition(";")[0]: {"schema": {"type": "string"}}},
    }
}


_DATE: Final = parameter(
    "date",
    {"type": "string", "enum": list(jobs.DATES)},
    "By which of its dates a job is looked for: when it was accepted, or when its charge, or that there is none, was "
    "booked. Default: created.",
)
_TEAM: Final = parameter("team_id", {"type": "string"}, "Of this team only.")
_USER: Final = parameter("user_id", {"type": "string"}, "Of this user only.")
_MODEL: Final = parameter("model", {"type": "string"}, "Of this model only.")
_MONTH: Final = parameter(
    "month", {"type": "string", "examples": ["2026-10"]}, "A month of TIMEZONE, instead of `since` and `until`."
)


@router.get(
    "/v1/reports/jobs.csv",
    operation_id="get_jobs_csv",
    summary="A line for each job",
    response_class=Response,  # no JSON
    responses=_CSV | responses(401, 403, 422, 503),
    openapi_extra={"parameters": [SINCE, UNTIL, _DATE, _TEAM, _USER, _MODEL]},
)
async def get_jobs_csv(request: Request, actor: AnyActor) -> Response:
    """Each job with both of its dates, whose it was, what was quoted and what it was charged: those you see.

    `charged_usd` is what the job has cost until now, whenever that was booked: what was corrected since is in it. So
    the lines of a closed month may come to another sum than the month; `focus.csv` has every charge on its own day.
    """
    wiring = rooms_of(request).wiring
    zone, now = wiring.settings.zone, wiring.clock()
    asked = jobs.read_jobs_asked(request.query_params.multi_items(), now=now, zone=zone)
    last = await open_end(wiring.db, now=now)
    streams: Streams = request.app.state.streams
    if asked.date == "created":
        until = asked.period.until or last + _MILLISECOND
        by_job = jobs.by_created(asked, actor=actor, until=until, last=last, zone=zone)
        pages = pages_by_job(wiring.db, streams, by_job, header=jobs.HEADER)
    else:
        by_booking = jobs.by_charged(asked, actor=actor, until=_sooner(asked.period, last), zone=zone)
        pages = pages_by_booking(wiring.db, streams, by_booking, header=jobs.HEADER)
    return await _streamed(request, pages, actor=actor, name=f"jobs_{stamp(asked.period, zone)}.csv")


@router.get(
    "/v1/reports/focus.csv",
    operation_id="get_focus_csv",
    summary="Every charge, in the columns of FOCUS 1.2",
    response_class=Response,  # no JSON
    responses=_CSV | responses(401, 403, 422, 503),
    openapi_extra={"parameters": [_MONTH, SINCE, UNTIL]},
)
async def get_focus_csv(request: Request, actor: AnyActor) -> Response:
    """A line for each settle, overage and adjustment, in the order they were booked: those you see.

    The sum of `BilledCost` is what the report of spend says was charged in the same time. `ChargeClass` is
    `Correction` where a month is corrected that was closed before.
    """
    wiring = rooms_of(request).wiring
    zone, now = wiring.settings.zone, wiring.clock()
    period = focus.read_focus_period(request.query_params.multi_items(), now=now, zone=zone)
    until = _sooner(period, await open_end(wiring.db, now=now))
    account = "falgate-sandbox" if wiring.settings.is_sandbox else "falgate"
    by_entry = await focus.by_entry(wiring.db, period, actor=actor, until=until, zone=zone, account=account)
    pages = pages_by_booking(wiring.db, request.app.state.streams, by_entry, header=focus.HEADER)
    return await _streamed(request, pages, actor=actor, name=f"focus_{stamp(period, zone)}.csv")


def _sooner(period: Period, last: datetime) -> datetime:
    return last if period.until is None else min(period.until, last)


async def _streamed(request: Request, pages: Pages, *, actor: Actor, name: str) -> Response:
    """The answer, once its first page is there."""
    streams: Streams = request.app.state.streams
    held = AsyncExitStack()
    await held.enter_async_context(streams.desks.taken(actor))
    try:
        pages = await begun(pages, is_theirs=partial(_is_theirs, request, actor))
    except BaseException:
        await held.aclose()
        raise
    return CsvResponse(pages, name=name, stopping=rooms_of(request).stopping, held=held)


async def _is_theirs(request: Request, actor: Actor) -> bool:
    """Whether the key is as good as it was; ADMIN_KEY is while the process lives."""
    if actor.caller is None:
        return True
    wiring, streams = rooms_of(request).wiring, request.app.state.streams
    secret_hash = credentials(request.scope["headers"], admin_key=wiring.settings.admin_key)
    found: bool = await streams.is_still(wiring.db, actor.caller, secret_hash, now=wiring.clock())
    return found

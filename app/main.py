"""The application: `create_app(settings)` puts the rooms together. Importing this reads nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app import __version__
from app.accounts import routes as accounts
from app.accounts.last_used import LastUsed
from app.compat import proxy, uploads
from app.compat import routes as compat
from app.compat import schema as compat_schema
from app.compat.errors import PREFIX as FAL_PREFIX
from app.compat.errors import fal_answer
from app.compat.repeats import Repeats
from app.db import CommitUnknown, is_database_away
from app.deliveries import routes as deliveries
from app.files import routes as files
from app.files.uploads import FRAMING_BYTES
from app.http import base_url, methods_of
from app.jobs.rooms import Rooms
from app.jobs.routes import adjustments, content, jobs, tokens
from app.jobs.routes import logs as log_routes
from app.jobs.routes import schema as jobs_schema
from app.ledger import routes as quotas
from app.ledger.months import routes as months
from app.ledger.prices import routes as prices
from app.problems import (
    MEDIA_TYPE,
    Internal,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    Problem,
    ProblemBody,
    Unavailable,
    input_faults,
)
from app.reports.desks import Desks, desks_within
from app.reports.explanation import routes as explanation
from app.reports.fal_bill import routes as reconciling
from app.reports.fal_bill.daily import DailyReconciling
from app.reports.lines import routes as lines
from app.reports.lines.pages import Streams
from app.reports.refusals import routes as refusals
from app.reports.spend import routes as spend
from app.settings import Settings
from app.web import docs, health, metrics
from app.web.cors import crossing
from app.web.edge import Edge
from app.web.failures import Failures
from app.wiring import unwire, utc_now, wire

log = logging.getLogger("falgate")

_UNKNOWN: Final = (
    "The database went away while this was being stored, so it may have happened: look at what is there before you "
    "send it again."
)


def create_app(settings: Settings, *, clock: Callable[[], datetime] = utc_now, work: bool = True) -> FastAPI:
    """The gateway. Connects nothing before its lifespan; without `work` it answers, but neither sends nor tracks."""
    wiring = wire(settings, clock=clock)
    last_used = LastUsed()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.rooms = Rooms(wiring, last_used)
        app.state.sender = app.state.rooms.sender
        app.state.repeats = Repeats(wiring, app.state.rooms.submits)
        daily = DailyReconciling(wiring)
        if work:
            app.state.rooms.start()
            daily.start()
        try:
            yield
        finally:
            await asyncio.gather(app.state.rooms.stop(), daily.stop())
            await unwire(wiring)

    app = FastAPI(
        title="falgate",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.wiring = wiring
    app.state.last_used = last_used
    app.state.desks = Desks(desks_within(settings.database_pool_size))
    app.state.streams = Streams()
    app.router.routes.extend(jobs.plain.routes)  # the hot paths: matched first, with nothing between
    for plain in (content.plain, proxy.plain, uploads.router, deliveries.plain, compat.plain):
        app.router.routes.extend(plain.routes)
    of_jobs = (jobs.router, adjustments.router, log_routes.router, explanation.router, tokens.router, files.router)
    of_money = (quotas.router, prices.router, months.router)
    told = (spend.router, lines.router, refusals.router, reconciling.router)
    domains = (*of_jobs, deliveries.router, *of_money, *told, accounts.router)
    for router in (*domains, health.router, metrics.router, docs.router):
        app.router.routes.extend(router.routes)  # as they are: including a router makes each of its routes anew
    docs.mount_assets(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    _answer_problems(app)
    app.state.failures = Failures()
    app.add_middleware(
        Edge,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=wiring.catalogue.image_bytes + FRAMING_BYTES,
        failures=app.state.failures,
        metrics=wiring.metrics,
        crossing=crossing(settings.cors_origins),
    )
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema, made once, with what the catalogue adds to it."""
    if not app.openapi_schema:
        document = get_openapi(
            title=app.title, version=app.version, routes=app.routes, description=docs.INTRODUCTION, tags=docs.TAGS
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = ProblemBody.model_json_schema()
        jobs_schema.complete(document, app.state.wiring.catalogue)
        compat_schema.complete(document, app.state.wiring.catalogue)
        docs.only_problems(document)
        app.openapi_schema = document
    return app.openapi_schema


def _answer_problems(app: FastAPI) -> None:
    async def problem(request: Request, error: Exception) -> Response:
        return await fault(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        faults = _faults(error) if isinstance(error, RequestValidationError) else []
        return _answer(request, InvalidInput(faults))

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == MethodNotAllowed.status:
            headers = {"Allow": ", ".join(methods_of(request))}
            return _answer(request, MethodNotAllowed("Use one of the methods in `Allow`.", headers=headers))
        return _answer(request, NotFound("There is no such path here; /docs lists them all."))

    async def fault(request: Request, error: BaseException) -> Response:
        if isinstance(error, Problem):
            return _answer(request, error)
        if is_database_away(error):
            log.warning("the database is away: %s", type(error).__name__)
            return _answer(request, Unavailable(_UNKNOWN) if isinstance(error, CommitUnknown) else Unavailable())
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _answer(request, Internal("It is in the gateway's log under this request_id."))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.state.fault = fault


def _faults(error: RequestValidationError) -> list[dict[str, str]]:
    """FastAPI's errors: the first part of a location says whether it is the body's, the query's or a header's."""
    faults = []
    for fault in error.errors():
        where, *rest = fault["loc"]
        if where == "body":
            faults += input_faults([fault], skip=1)
        else:
            detail = input_faults([fault])[0]["detail"]
            faults.append({"header" if where == "header" else "parameter": ".".join(map(str, rest)), "detail": detail})
    return faults


def _answer(request: Request, problem: Problem) -> Response:
    if request.scope["path"].startswith(FAL_PREFIX):
        return fal_answer(problem)
    settings: Settings = request.app.state.wiring.settings
    body = problem.body(
        base_url=settings.public_url or base_url(request), request_id=request.scope.get("request_id", "")
    )
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers)

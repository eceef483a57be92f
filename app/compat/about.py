"""Calls about one job in fal's protocol: its status, its stream, its result, and cancelling it."""

from starlette.requests import Request
from starlette.responses import Response

from app.compat.paths import RequestCall
from app.jobs.reach import NOT_FOUND_DETAIL
from app.problems import NotFound


async def answer_about(request: Request, call: RequestCall) -> Response:
    """The answer to `GET …/requests/{id}[/status[/stream]]` and `PUT …/requests/{id}/cancel`; raises Problems."""
    del request, call
    raise NotFound(NOT_FOUND_DETAIL)

"""fal's protocol under `/fal/`: which call it is, and who answers it."""

from typing import assert_never

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.compat.about import answer_about
from app.compat.paths import Call, NoCall, RequestCall, RunCall, SubmitCall, parse_below
from app.http import PlainRoute
from app.problems import NotFound

plain = APIRouter(route_class=PlainRoute, tags=["fal"])
"""Takes every path below `/fal/`: a route of its own there (the proxy, the JWKS) is matched before it."""


@plain.api_route("/fal/{path:path}", methods=["GET", "POST", "PUT"], include_in_schema=False)
async def answer_path(request: Request) -> Response:
    """Anything at all of fal's queue."""
    return await answer_call(request, parse_below(request.path_params["path"]))


async def answer_call(request: Request, call: Call) -> Response:
    """The answer to a call, however its path was found; the request's method, headers, query and body count.

    Send what is returned at once, and once. Raises Problems, which are told in fal's shapes under /fal/.
    """
    match call:
        case SubmitCall() | RunCall():
            raise NotFound("Not yet.")
        case RequestCall():
            return await answer_about(request, call)
        case NoCall(detail):
            raise NotFound(detail)
        case _:
            assert_never(call)

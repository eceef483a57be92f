"""fal's protocol under `/fal/`: which call it is, and who answers it."""

from typing import assert_never

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.accounts.access import credential_of, require_caller
from app.compat.about import answer_about
from app.compat.paths import Call, NoCall, RequestCall, RunCall, SubmitCall, parse_below
from app.compat.run import answer_run
from app.compat.schema import ANSWERS, SUBMIT
from app.compat.submit import answer_submit
from app.http import PlainRoute
from app.jobs.routes.schema import KEY_OR_TOKEN
from app.problems import NotFound
from app.wiring import wiring_of

plain = APIRouter(route_class=PlainRoute, tags=["fal"])
"""Takes every path below `/fal/`: a route of its own there (the proxy, the JWKS) is matched before it."""


@plain.post(
    "/fal/{endpoint:path}",  # noqa: FAST003  a plain route reads its own path
    operation_id="submit_as_to_fal",
    summary="Ask for a video as fal is asked",
    description=SUBMIT,
    responses=ANSWERS,
    openapi_extra={"security": KEY_OR_TOKEN},
)
async def answer_post(request: Request) -> Response:
    """A submit, or whatever else is POSTed below `/fal/`."""
    return await answer_call(request, parse_below(request.path_params["endpoint"]))


@plain.api_route("/fal/{path:path}", methods=["GET", "PUT"], include_in_schema=False)
async def answer_path(request: Request) -> Response:
    """What is asked about a job."""
    return await answer_call(request, parse_below(request.path_params["path"]))


async def answer_call(request: Request, call: Call) -> Response:
    """The answer to a call, however its path was found; the request's method, headers, query and body count.

    Send what is returned at once, and once. Raises Problems, which are told in fal's shapes under /fal/.
    """
    match call:
        case SubmitCall(endpoint):
            return await answer_submit(request, endpoint)
        case RunCall(endpoint):
            return await answer_run(request, endpoint)
        case RequestCall():
            return await answer_about(request, call)
        case NoCall(detail):
            wiring = wiring_of(request)
            await require_caller(request, wiring, credential_of(request, wiring).secret_hash)
            raise NotFound(detail)
        case _:
            assert_never(call)

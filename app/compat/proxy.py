"""`/fal/proxy`, fal's server-proxy protocol: `@fal-ai/client` names in a header the URL that it means (FAL.md 4.3).

Nothing is ever fetched: the URL is taken apart, and what it asks for is answered by the gateway itself, like the same
call below `/fal/`.
"""

import re
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from app.accounts.callers import KeyUnknown
from app.compat.paths import NO_TOKENS, Call, NoCall, parse_queue, parse_run
from app.compat.routes import answer_call
from app.compat.uploads import answer_initiate, refuse_parts
from app.http import PlainRoute
from app.problems import Problem
from app.wiring import wiring_of

plain = APIRouter(route_class=PlainRoute, tags=["fal"])

LONGEST_TARGET: Final = 2_000
_HEADER: Final = "x-fal-target-url"
_URL: Final = re.compile(r"https://(queue\.fal\.run|fal\.run|rest\.fal\.ai)/([A-Za-z0-9._~:@+/-]*)(?:\?([!-\"$-~]*))?")
_STORAGE: Final = "storage/"
_INITIATE: Final = f"{_STORAGE}upload/initiate"
_STORAGE_TYPE: Final = ["fal-cdn-v3"]
_NO_CREDENTIALS: Final = (
    "Give the client a token that your own server made with POST /v1/tokens: fal.config({credentials: token, …})."
)


class TargetRefused(Problem):
    """The header `x-fal-target-url` names nothing that this gateway answers.

    `@fal-ai/client` sends it when its `proxyUrl` is this gateway's `/fal/proxy`: it must come once and be an https URL
    of `queue.fal.run`, of `fal.run`, or of the upload initiation at `rest.fal.ai`, spelled as the client spells it.
    Nothing is forwarded, so no other URL can be reached this way.
    """

    status = 400


@plain.api_route("/fal/proxy", methods=["GET", "POST", "PUT"], include_in_schema=False)
async def answer_target(request: Request) -> Response:
    """What the target URL asks for, as if it had been asked for below `/fal/`.

    Raises TargetRefused, BodyTooLarge for an upload in parts, KeyUnknown, and whatever that call raises.
    """
    host, path, query = _target(request.headers)
    call = _call(host, path)
    if call is None:
        refuse_parts(path.removeprefix(_STORAGE), wiring_of(request))
        _require_initiation(request.method, path, query)
    if "authorization" not in request.headers:
        raise KeyUnknown(_NO_CREDENTIALS)
    request.scope["query_string"] = query.encode()  # its answer reads the target's: `logs`, `fal_webhook`
    return await (answer_initiate(request) if call is None else answer_call(request, call))


def _call(host: str, path: str) -> Call | None:
    """What the queue or fal.run is asked for; None at rest.fal.ai. Raises TargetRefused."""
    if host == "rest.fal.ai":
        return None
    call = parse_run(path) if host == "fal.run" else parse_queue(path)
    if isinstance(call, NoCall):
        raise TargetRefused(call.detail)
    return call


def _target(headers: Headers) -> tuple[str, str, str]:
    """Host, path without its first slash, and query. Raises TargetRefused."""
    given = headers.getlist(_HEADER)
    if len(given) != 1:
        raise TargetRefused(f"Send the header {_HEADER} once: the client does when its proxyUrl is this address.")
    found = _URL.fullmatch(given[0]) if len(given[0]) <= LONGEST_TARGET else None
    if found is None:
        raise TargetRefused(
            f"The header {_HEADER} must be an https URL at queue.fal.run, fal.run or rest.fal.ai, with a plain path."
        )
    host, path, query = found[1], found[2], found[3] or ""
    if any(segment in {"", ".", ".."} for segment in path.removesuffix("/").split("/")):
        raise TargetRefused(f"The path in {_HEADER} must be plain: no `..`, no empty part.")
    return host, path, query


def _require_initiation(method: str, path: str, query: str) -> None:
    """Of all that rest.fal.ai does the gateway does one thing. Raises TargetRefused."""
    if path.removesuffix("/").split("/")[0] == "tokens":
        raise TargetRefused(NO_TOKENS)
    if (
        method != "POST"
        or path != _INITIATE
        or parse_qs(query, keep_blank_values=True) != {"storage_type": _STORAGE_TYPE}
    ):
        raise TargetRefused(
            f"Of rest.fal.ai the gateway answers POST /{_INITIATE}?storage_type=fal-cdn-v3 and nothing else."
        )

"""The outermost part of every request: its id, its limits, and an answer whatever goes wrong."""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Iterable
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.http import begin_answering
from app.jobs.submits.request import LONGEST_WAIT_SECONDS
from app.metrics import Metrics
from app.problems import TooManyFailures, Unavailable
from app.web.bodies import Bodies, Body
from app.web.cors import Crossing
from app.web.failures import Failures
from app.web.headers import headers_for
from app.web.patience import Patience, Watch

log = logging.getLogger("falgate")

REQUEST_SECONDS: Final = 60.0
"""How long a request may last once its body is here, unless it waits for a job: each part of it gives up earlier."""

_COUNTING_PATHS: Final = ("/v1/quotas", "/v1/months")  # a lifetime of jobs may have to be counted for them
_COUNTING_SECONDS: Final = 3600.0
_SMALL_BODY_BYTES: Final = 1_000_000
_FAL: Final = "/fal/"
_FAL_ID: Final = b"x-fal-request-id"
_IMAGE_PATHS: Final = ("/v1/image-to-video", _FAL)
_FILE_PATHS: Final = "/v1/files"
_ASK_FOR_KEYS: Final = ("/v1/", _FAL, "/metrics")
_ANSWERS_ONLY_KEYS: Final = ("/v1/", _FAL)
_ANSWERS_ANYBODY: Final = "/fal/.well-known/"
_HAVE_NO_BODY: Final = frozenset({"GET", "HEAD"})
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_SUCCESSES_BELOW: Final = 300
_CUT_OFF: Final = (
    "This was not finished in time, and may or may not have been stored: look before you send it again, or repeat it "
    "with the same Idempotency-Key."
)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """ASGI middleware. Adds `x-request-id` to every answer and to every line of the log.

    What goes out to pages of other origins goes through `crossing`, its own refusals like the application's answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        max_upload_bytes: int,
        failures: Failures,
        metrics: Metrics,
        crossing: Crossing,
    ) -> None:
        self._app = crossing(app)
        self._crossing = crossing
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = min(max_body_bytes, max_upload_bytes)
        # those of images, which only a known key may send, and the others: strangers' never crowd out images
        self.bodies = Bodies(max_body_bytes), Bodies(max_body_bytes)
        self._failures = failures
        self._watch = Watch()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102  ASGI
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope["request_id"] = request_id
        logs.request_id.set(request_id)
        begin_answering(scope)
        given = dict(scope["headers"])
        seconds = _seconds(scope["path"], given)
        patience = self._watch.begin(seconds)
        scope["patience"] = patience
        around = _Around(scope, send, request_id, patience, self._metrics)
        if scope["method"] in _HAVE_NO_BODY:
            try:
                await self._answer(scope, receive, around, given)
            finally:
                self._watch.end(patience)
            return
        limit, among = self._limit(scope["path"])
        body = Body(receive, given, limit_bytes=limit, among=among, patience=patience, then_seconds=seconds)
        try:
            await self._answer(scope, body, around, given)
        finally:
            body.release()
            self._watch.end(patience)

    async def _answer(self, scope: Scope, receive: Receive, send: "_Around", given: dict[bytes, bytes]) -> None:
        try:
            credential = _credential(scope, given)
            if not credential or not scope["path"].startswith(_ASK_FOR_KEYS):
                await self._app(scope, receive, send)
            else:
                await self._answer_known(scope, receive, send, credential)
        except ClientDisconnect:
            log.debug("%s %s: the caller hung up before its body was here", scope["method"], scope["path"])
        except asyncio.CancelledError:  # it took too long, or the server ends and has waited as long as it may
            if send.status:
                raise
            send.patience.forgive()
            await self._refuse(scope, receive, send, Unavailable(_CUT_OFF))
        except (Exception, BaseExceptionGroup) as error:
            if send.status:
                raise
            await self._refuse(scope, receive, send, error)

    async def _answer_known(self, scope: Scope, receive: Receive, send: "_Around", credential: bytes) -> None:
        """What asks for a key and is given one: too many wrong ones from one address are not looked at."""
        client = scope.get("client")
        if seconds := self._failures.refused_seconds(client, credential):
            raise TooManyFailures(
                "Too many wrong keys came from this address. Send a right one after the seconds in `Retry-After`.",
                headers={"Retry-After": str(seconds)},
            )
        try:
            await self._app(scope, receive, send)
        finally:
            if send.status == _UNAUTHORIZED:
                self._failures.failed(client, credential)
            elif 0 < send.status < _SUCCESSES_BELOW and _opens_for_keys_only(scope):
                self._failures.succeeded(credential)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: BaseException) -> None:
        request = Request(scope)
        response = await request.app.state.fault(request, error)
        await self._crossing(response)(scope, receive, send)

    def _limit(self, path: str) -> tuple[int, Bodies]:
        images, others = self.bodies
        if path.startswith(_IMAGE_PATHS):
            return self._max_body_bytes, images
        if path.startswith(_FILE_PATHS):
            return self._max_upload_bytes, images
        return min(self._max_body_bytes, _SMALL_BODY_BYTES), others


def _method(scope: Scope) -> str:
    """A caller may send any word as its method."""
    method: str = scope["method"]
    return method if method in _METHODS else "OTHER"


def _route(scope: Scope) -> str:
    """The template of the route that was found, never the path: that is the caller's, and has ids in it."""
    return str(getattr(scope.get("route"), "path", "none"))


def _credential(scope: Scope, given: dict[bytes, bytes]) -> bytes:
    """Whatever the request says it may by: header and `?token=` together, so that neither hides behind the other."""
    credential = given.get(b"authorization", b"")
    return credential + b"?" + scope["query_string"] if b"token=" in scope["query_string"] else credential


def _seconds(path: str, given: dict[bytes, bytes]) -> float:
    if path.startswith(_COUNTING_PATHS):
        return _COUNTING_SECONDS
    return REQUEST_SECONDS + (LONGEST_WAIT_SECONDS if b"prefer" in given else 0)


def _is_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def _opens_for_keys_only(scope: Scope) -> bool:
    """Whether a success there proves the key: a preflight is answered to anybody, as /metrics is without a key."""
    path: str = scope["path"]
    is_open = scope["method"] == "OPTIONS" or path.startswith(_ANSWERS_ANYBODY)
    return path.startswith(_ANSWERS_ONLY_KEYS) and not is_open


class _Around:
    """An ASGI `send` that adds what every answer carries, and knows its status, 0 before it has begun."""

    __slots__ = ("_began", "_id", "_metrics", "_path", "_scope", "_send", "patience", "status")

    def __init__(self, scope: Scope, send: Send, request_id: str, patience: Patience, metrics: Metrics) -> None:
        self.status = 0
        self._began = time.perf_counter()
        self._metrics = metrics
        self._scope = scope
        self.patience = patience
        self._path: str = scope["path"]
        self._send = send
        self._id = (b"x-request-id", request_id.encode())

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if "is_waiting" not in self._scope:
                seconds = time.perf_counter() - self._began
                self._metrics.saw_http(_method(self._scope), _route(self._scope), self.status, seconds)
            headers = message["headers"]
            message["headers"] = [*headers, self._id, *headers_for(self._path, headers)]
            if self._path.startswith(_FAL) and not any(name == _FAL_ID for name, _ in headers):
                message["headers"].append((_FAL_ID, self._id[1]))  # without it Python takes us for a broken nginx
            if self.status == _OK and _is_stream(headers):
                self.patience.last(math.inf)  # it lasts as long as its job
        await self._send(message)

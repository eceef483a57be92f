"""The outermost part of every request: its id, the limit of its body, and an answer whatever goes wrong."""

import logging
import secrets
import time
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.metrics import Metrics
from app.problems import BodyTooLarge

log = logging.getLogger("falgate")

_SMALL_BODY_BYTES: Final = 1_000_000
_IMAGE_PATHS: Final = "/v1/image-to-video"
_DRAIN_FACTOR: Final = 4
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """ASGI middleware. Adds `x-request-id` to every answer and to every line of the log."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102  ASGI
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope["request_id"] = request_id
        logs.request_id.set(request_id)
        header = (b"x-request-id", request_id.encode())
        has_begun = False
        came_at = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                if "is_waiting" not in scope:
                    seconds = time.perf_counter() - came_at
                    self._metrics.saw_http(_method(scope), _route(scope), message["status"], seconds)
                message["headers"] = [*message["headers"], header]
            await send(message)

        if scope["method"] not in {"GET", "HEAD"}:
            limit = self._limit(scope["path"])
            receive = _Limited(receive, limit, scope, drain_bytes=self._max_body_bytes * _DRAIN_FACTOR)
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.debug("%s %s: the caller hung up before its body was here", scope["method"], scope["path"])
        except Exception as error:
            if has_begun:
                raise
            request = Request(scope)
            response = await request.app.state.fault(request, error)
            await response(scope, receive, send_with_id)

    def _limit(self, path: str) -> int:
        return self._max_body_bytes if path.startswith(_IMAGE_PATHS) else min(self._max_body_bytes, _SMALL_BODY_BYTES)


def _method(scope: Scope) -> str:
    """A caller may send any word as its method."""
    method: str = scope["method"]
    return method if method in _METHODS else "OTHER"


def _route(scope: Scope) -> str:
    """The template of the route that was found, never the path: that is the caller's, and has ids in it."""
    return str(getattr(scope.get("route"), "path", "none"))


class _Limited:
    """A request's body that refuses to be longer than allowed, whatever Content-Length says."""

    def __init__(self, receive: Receive, limit: int, scope: Scope, *, drain_bytes: int) -> None:
        self._receive = receive
        self._limit = limit
        self._drain_bytes = drain_bytes
        self._received = 0
        headers = dict(scope["headers"])
        self._announced = _length(headers.get(b"content-length", b""))
        self._sends_when_told = headers.get(b"expect", b"").lower() == b"100-continue"

    async def __call__(self) -> Message:
        if self._announced > self._limit:
            await self._refuse(is_coming=not self._sends_when_told)
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            await self._refuse(is_coming=message.get("more_body", False))
        return message

    async def _refuse(self, *, is_coming: bool) -> None:
        """Read some of the rest first: a client that is still writing would never see the answer."""
        self._announced = 0
        while is_coming and self._received <= self._drain_bytes:
            message = await self._receive()
            self._received += len(message.get("body", b""))
            is_coming = message.get("more_body", False)
        raise BodyTooLarge(
            f"This route takes a body of at most {self._limit} bytes.",
            headers={"Connection": "close"},
            limit_bytes=self._limit,
        )


def _length(value: bytes) -> int:
    return int(value) if value.isdigit() else 0

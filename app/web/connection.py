"""A connection as we serve it: uvicorn's, with bounds on the heads of requests, and refusals in our own shape.

uvicorn (0.54, httptools) takes headers of any size and waits for them for ever. What is added costs a request whose
head comes in one piece, as nearly all do, two comparisons and no timer.
"""

import asyncio
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.problems import MEDIA_TYPE, HeadTooLarge, NotHttp, Problem
from app.web.headers import headers_for

MOST_HEAD_BYTES: Final = 65_536
MOST_HEADERS: Final = 100
HEAD_SECONDS: Final = 20.0
"""How long a head may take to arrive, from the first byte (of the first request: from the connection)."""

_LINGER_SECONDS: Final = 1.0  # closed at once, a client that is still writing would never see the answer


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._head_bytes = 0
        self._is_refused = False
        self._refusal: Callable[[], Problem] = _not_http
        self._timer: asyncio.TimerHandle | None = None
        self._leave: _Leave

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client connects: its first head is waited for."""
        super().connection_made(transport)
        self._leave = _Leave(transport, self._close)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, a body, or what follows a refusal."""
        if self._is_refused:
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes and not self._is_refused:
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self._in_head and self._timer is None:
                self._start_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a head. One that follows a body is passed over: uvicorn would take it for one of the head."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is here: begin to answer, unless it is too large."""
        if len(self.headers) > MOST_HEADERS or (self._head_bytes > MOST_HEAD_BYTES and self._size() > MOST_HEAD_BYTES):
            self._refusal = _head_too_large
            raise ValueError  # stops the parser, which has `send_400_response` called
        if self.parser.should_upgrade() and self._announces_body():
            self._refusal = _not_upgraded  # httptools skips this body, and would read it as the next request
            raise ValueError
        self._stop_timer()
        super().on_headers_complete()
        self.cycle.transport = self._leave  # type: ignore[assignment]  # the three methods that it calls
        self._in_head = False
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of a body; what may not be long without end is what stands between two of them, or after the last."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a body, or of a head that has none."""
        super().on_message_complete()
        self._stop_timer()
        self._in_head = True
        self._head_bytes = 0

    def on_response_complete(self) -> None:
        """An answer is out; what still comes of its request's body is not waited for without end."""
        super().on_response_complete()
        if not self._in_head and self._timer is None and not self.transport.is_closing():
            self._start_timer()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words are not ours
        """What the parser does not take."""
        self._refuse(self._refusal())

    def _announces_body(self) -> bool:
        return any(name in {b"content-length", b"transfer-encoding"} and value != b"0" for name, value in self.headers)

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._is_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_timer()  # the caller waits for us, not we for the caller
        else:
            self._is_refused = True
            self._linger()

    def _refuse(self, problem: Problem) -> None:
        """Answer in the application's stead, take nothing more, and close; whole requests before keep their answers."""
        self._is_refused = True
        self._stop_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and self._in_head:
            cycle.keep_alive = False
            return
        if cycle is not None and not self._in_head:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:  # an answer is on its way or out: this one would follow it
                self.transport.close()
                return
        self.transport.write(self._written(problem))
        self._linger()

    def _close(self) -> None:
        """An answer is out that ends the connection."""
        if self._in_head:
            self.transport.close()
        else:
            self._is_refused = True
            self._stop_timer()
            self._linger()

    def _linger(self) -> None:
        """Say that no more will come; what does is dropped, for a connection reset would take the answer with it."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _written(self, problem: Problem) -> bytes:
        request_id = f"req_{secrets.token_hex(12)}"
        body = problem.body(base_url=self._base_url(), request_id=request_id)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
        ]
        lines = [name + b": " + value for name, value in (*headers, *headers_for("", headers))]
        first = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}".encode()
        return b"\r\n".join([first, *lines, b"", body])

    def _base_url(self) -> str:
        host, port = self.server or ("", None)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"


class _Leave:
    """A transport as uvicorn's cycle of request and answer uses it, but for how it closes."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def _head_too_large() -> Problem:
    return HeadTooLarge(
        "Send fewer or shorter headers, and a shorter path.",
        limit_bytes=MOST_HEAD_BYTES,
        limit_headers=MOST_HEADERS,
    )


def _not_http() -> Problem:
    return NotHttp("Send a request of HTTP/1.1 as RFC 9112 writes it.")


def _not_upgraded() -> Problem:
    return NotHttp("Send it without the header `Upgrade`: only HTTP/1.1 is spoken here. (In Java: version(HTTP_1_1).)")

"""Applications on loopback in the test's own loop, over TLS where a client insists on it, and watched."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import uvicorn

from app.web.connection import Connection

from .certificate import Certificate

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

CUT_HEADER = b"x-test-cut"
_TRANSPORT = "tests.transport"


class WatchedConnection(Connection):
    """The gateway's own connection, but whoever watches a call can break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: {"transport": self.transport}}


class Seen(NamedTuple):
    """One call that arrived, and what it was answered."""

    method: str
    path: str
    key: str
    status: int


class Watched:
    """An application, each call to it written down.

    Of the POSTs with the same `x-test-cut` the first loses its connection when its answer begins, so that not one byte
    of it arrives.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._cut: set[bytes] = set()
        self.seen: list[Seen] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        key = headers.get(b"authorization", b"").decode().partition(" ")[2]
        word = headers.get(CUT_HEADER)
        is_cut = word is not None and scope["method"] == "POST" and word not in self._cut
        if is_cut and word is not None:
            self._cut.add(word)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.seen.append(Seen(scope["method"], scope["path"], key, 0 if is_cut else message["status"]))
                if is_cut:
                    scope["extensions"][_TRANSPORT]["transport"].abort()
                    while (await receive())["type"] != "http.disconnect":
                        pass
            await send(message)

        await self._app(scope, receive, watch)

    def count(self, method: str, *, key: str) -> int:
        """How many calls of this method came with this key."""
        return sum(seen.method == method and seen.key == key for seen in self.seen)


async def read_body(receive: Receive) -> bytes:
    """All of a request's body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = bool(message.get("more_body"))
    return body


def listen() -> socket.socket:
    """A free port on loopback."""
    return socket.create_server(("127.0.0.1", 0))


def host_of(listener: socket.socket) -> str:
    """Its HOST:PORT."""
    return f"127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def serve(
    app: Any,
    *,
    http: type[asyncio.Protocol] = WatchedConnection,
    certificate: Certificate | None = None,
    listener: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Serve until the block ends; gives HOST:PORT. Its lifespan is somebody else's."""
    listener = listener or listen()
    config = uvicorn.Config(
        app,
        http=http,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate.path if certificate else None,
        ssl_keyfile=certificate.key_path if certificate else None,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            await serving
    try:
        yield host_of(listener)
    finally:
        server.should_exit = True
        await serving

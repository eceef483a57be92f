"""Sending an answer, and the ways in which a network does not."""

import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.sandbox.answers import Answer
from app.sandbox.calls import Call

TRANSPORT = "sandbox.transport"
RESET_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST instead of FIN


class Protocol(HttpToolsProtocol):
    """uvicorn's own, but each call can reach its connection, to break it."""

    def on_message_begin(self) -> None:
        """Open a new call."""
        super().on_message_begin()
        extensions: dict[str, Any] = {TRANSPORT: {"transport": self.transport}}
        self.scope["extensions"] = extensions


async def deliver(call: Call, answer: Answer) -> None:
    """Send the answer, or break off as its `delivery` says."""
    if answer.delivery == "send":
        await _send(call, answer)
        return
    if answer.delivery == "cut":
        await _send_half(call, answer)
    if answer.delivery in ("cut", "close"):
        _transport(call).close()
    if answer.delivery == "reset":
        _reset(call)
    # uvicorn would answer 500 for us if we returned before it knows that the connection is gone.
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def _send(call: Call, answer: Answer) -> None:
    length = (b"content-length", str(len(answer.body)).encode())
    await call.send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, length]})
    await call.send({"type": "http.response.body", "body": answer.body})


async def _send_half(call: Call, answer: Answer) -> None:
    length = (b"content-length", str(len(answer.body)).encode())
    await call.send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, length]})
    half = answer.body[: len(answer.body) // 2]
    await call.send({"type": "http.response.body", "body": half, "more_body": True})


def _transport(call: Call) -> Any:
    return call.scope["extensions"][TRANSPORT]["transport"]


def _reset(call: Call) -> None:
    transport = _transport(call)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
    transport.abort()

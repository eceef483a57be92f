"""A server on loopback that does on purpose what networks, proxies and fal do by accident."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

REQUEST_ID = "764cabcf-b745-4b3e-ae38-1200304cf45b"
KLING = "fal-ai/kling-video/v2.1/master/text-to-video"


@dataclass(frozen=True)
class Act:
    """What the server does with one request: how much of it it reads, what it says, how it goes on."""

    say: bytes = b""
    then: Literal["keep", "close", "reset", "hang"] = "close"
    read: Literal["all", "nothing"] = "all"


@dataclass(frozen=True)
class Heard:
    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def answer(
    code: int,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    then: Literal["keep", "close", "reset", "hang"] = "keep",
) -> Act:
    """A well-formed reply: `body` as JSON, or as it is when it is bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {code} Said", f"Content-Length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    bodiless = code in {204, 304} or code < 200
    head = "\r\n".join(lines if not bodiless else [lines[0], *lines[2:]])
    return Act(head.encode("latin-1") + b"\r\n\r\n" + (b"" if bodiless else raw), then)


def accepted(**members: object) -> Act:
    return answer(200, {"request_id": REQUEST_ID, **members})


@dataclass
class Server:
    """Scripted by `act`, which may be set anew before each request."""

    act: Act | Callable[[Heard], Act]
    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    hearing: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        act = self.act if isinstance(self.act, Act) and self.act.read == "nothing" else None
        if act is None:
            head = await reader.readuntil(b"\r\n\r\n")
            heard = Heard(head, b"")
            length = int(heard.headers.get("content-length", "0"))
            heard = Heard(head, await reader.readexactly(length))
            self.heard.append(heard)
            self.hearing.set()
            act = self.act if isinstance(self.act, Act) else self.act(heard)
        writer.write(act.say)
        await writer.drain()
        if act.then == "reset":
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        if act.then == "hang":
            await self._over.wait()
        return act.then == "keep"

    def stop_hanging(self) -> None:
        self._over.set()


@asynccontextmanager
async def serving(act: Act | Callable[[Heard], Act], *, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a free port of 127.0.0.1, closed with every connection at the end."""
    server = Server(act)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(server.talk(reader, writer))
        tasks.add(task)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context, limit=2**20)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"{'http' if context is None else 'https'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        server.stop_hanging()
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""A CDN of our own: each path answers as it was told to, and knows who has hung up."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

PIECE = 65_536
RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")


@dataclass(kw_only=True)
class File:
    """How a path answers. The bytes are `size` times the number of their place, so that parts can be told apart."""

    size: int = 1000
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "video/mp4"})
    takes_ranges: bool = True
    etag: str = '"one"'
    says_length: bool = True
    breaks_after: int | None = None
    waits_after: int | None = None
    content_range: str | None = None

    def part(self, start: int, end: int) -> bytes:
        return bytes(place % 251 for place in range(start, end))


GONE = File(status=404, size=0)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]


class Cdn:
    """A running one."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, File] = {}
        self.asked: list[Asked] = []
        self.sent = 0
        self.sent_now = 0
        self.open = 0
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()

    def put(self, name: str, file: File) -> str:
        """The URL at which this file now is."""
        self.files[f"/{name}"] = file
        return f"{self.url}/{name}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                pairs = (line.partition(": ") for line in head[1:] if line)
                asked = Asked(method, path, {name.lower(): value for name, _, value in pairs})
                self.asked.append(asked)
                answering = asyncio.create_task(self._answer(asked, self.files.get(path, GONE), writer))
                leaving = asyncio.create_task(reader.read())
                await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
                answering.cancel()
                leaving.cancel()
                await asyncio.wait([answering, leaving])
        finally:
            writer.close()
            self.open -= 1
            self.left.set()

    async def _answer(self, asked: Asked, file: File, writer: asyncio.StreamWriter) -> None:
        start, end, status = 0, file.size, file.status
        headers = {"etag": file.etag, "connection": "close", **file.headers}
        found = RANGE.fullmatch(asked.headers.get("range", "")) if file.takes_ranges and status == 200 else None
        if found is not None and asked.headers.get("if-range", file.etag) == file.etag:
            start = int(found[1]) if found[1] else max(0, file.size - int(found[2]))
            end = min(int(found[2]) + 1, file.size) if found[1] and found[2] else file.size
            status = 206 if start < file.size else 416
            headers["content-range"] = (
                f"bytes {start}-{end - 1}/{file.size}" if status == 206 else f"bytes */{file.size}"
            )
            start, end = (start, end) if status == 206 else (0, 0)
        if file.content_range is not None:
            headers["content-range"], status = file.content_range, 206
        if file.says_length:
            headers["content-length"] = str(end - start)
        lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if asked.method != "HEAD":
            await self._send(file, start, end, writer)
        await writer.drain()

    async def _send(self, file: File, start: int, end: int, writer: asyncio.StreamWriter) -> None:
        same = bytes(PIECE)
        for at in range(start, end, PIECE):
            piece = min(PIECE, end - at)
            if file.breaks_after is not None and at + piece > file.breaks_after:
                return
            if file.waits_after is not None and at >= file.waits_after:
                await self.go_on.wait()
            writer.write(file.part(at, at + piece) if file.size <= 10 * PIECE else same[:piece])
            self.sent += piece
            self.sent_now = at + piece - start
            await writer.drain()


@asynccontextmanager
async def run_cdn() -> AsyncIterator[Cdn]:
    cdn = Cdn()
    server = await asyncio.start_server(cdn.serve, "127.0.0.1", 0)
    cdn.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield cdn
        server.close()

"""A way to Postgres that a test can cut, at the worst moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

Cut = Literal["never", "before COMMIT", "after COMMIT", "always"]


class Relay:
    """Hands bytes on; `cut` says when it does not. A cut COMMIT is counted, and the next is handed on."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.cut: Cut = "never"
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut == "always":
            writer.close()
            return
        their_reader, their_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, their_writer}
        back = asyncio.create_task(self._copy(their_reader, writer))
        with suppress(OSError):
            while data := await reader.read(65536):
                if b"COMMIT\0" in data and self.cut in {"before COMMIT", "after COMMIT"}:
                    self.cuts += 1
                    mode, self.cut = self.cut, "never"
                    back.cancel()
                    if mode == "after COMMIT":
                        their_writer.write(data)
                        await their_reader.read(1)  # the server has answered, and so has committed
                    break
                their_writer.write(data)
                await their_writer.drain()
        for each in (writer, their_writer):
            each.close()
            self._writers.discard(each)
        with suppress(asyncio.CancelledError):
            await back

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut_off(self) -> None:
        """The database is away: for those connected, and for whoever comes."""
        self.cut = "always"
        for writer in list(self._writers):
            writer.close()


@asynccontextmanager
async def relay_to(database_url: str, folder: Path) -> AsyncIterator[tuple[Relay, str]]:
    """A relay, and the URL that goes through it. `folder` must have a short path."""
    parts = urlsplit(database_url)
    host = parse_qs(parts.query)["host"][0]
    relay = Relay(f"{host}/.s.PGSQL.5432")
    server = await asyncio.start_unix_server(relay.serve, folder / ".s.PGSQL.5432")
    try:
        yield relay, f"postgresql://postgres@{parts.path}?host={quote(str(folder))}&port=5432".replace("@/", "@/", 1)
    finally:
        relay.cut_off()
        server.close()
        await asyncio.sleep(0.05)

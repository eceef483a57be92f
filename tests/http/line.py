"""A line to Postgres that can be cut, and laid to another server."""

import asyncio
from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit


class Line:
    """Connections through it break when it is cut; meanwhile new ones are refused."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._user = f"{parts.username}:{parts.password}@" if parts.password else f"{parts.username}@"
        self._name = parts.path
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.lay_to(dsn)

    def lay_to(self, dsn: str) -> None:
        """Where new connections lead: the socket of this server."""
        parts = urlsplit(dsn)
        host = parse_qs(parts.query)["host"][0] if parts.query else unquote(parts.hostname or "")
        self._socket = f"{host}/.s.PGSQL.{parts.port or parse_qs(parts.query).get('port', ['5432'])[0]}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def dsn(self) -> str:
        return f"postgresql://{self._user}127.0.0.1:{self._port}{self._name}"

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        except OSError:  # nobody listens there
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        self._writers -= {writer, far_writer}

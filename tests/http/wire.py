"""A client that writes bytes as it likes, and reads what is answered."""

import asyncio
from urllib.parse import urlsplit

from tests.gateway import Gateway


class Answer:
    """Status, headers and body, as they came over the wire."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1]) if raw else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def send(gateway: Gateway, *parts: bytes, within_seconds: float = 10, close: bool = False) -> Answer:
    """Write these bytes on a new connection; the answer is what comes until the gateway closes or has said it all."""
    parsed = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parsed.hostname, parsed.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if close:
            writer.write_eof()
        async with asyncio.timeout(within_seconds):
            raw = await reader.readuntil(b"\r\n\r\n")
            length = Answer(raw).headers.get("content-length")
            return Answer(raw + (await reader.readexactly(int(length)) if length else await reader.read()))
    except asyncio.IncompleteReadError as error:
        return Answer(error.partial)
    finally:
        writer.close()


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: gateway", *lines, "", ""]).encode("latin-1")

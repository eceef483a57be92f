"""The two ways to fal, and the reading of one reply: bounded, never redirected, never showing FAL_KEY.

The transports of httpx are called directly, without its client: so there is no code on the way that could
follow a redirect, keep a cookie, look for a proxy or a `netrc` in the environment, or log a URL with an
attempt's id in it.
"""

import ssl
import time
from contextlib import aclosing
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from pydantic import SecretStr

from app.fal.messages import Reply, clean
from app.outward.transport import Transport

HEADER_BYTES: Final = 32_768  # fal's custom headers together come to at most 16 KB (FAL.md 1.7)
_REASON_CHARACTERS: Final = 300
_SCRUBBED_FROM: Final = 16  # characters; the word `sandbox` is no secret, and stands in the sandbox's URLs


class ReplyUnreadableError(Exception):
    """The reply is longer than its limit, or encoded in a way that was not asked for."""


def trust() -> ssl.SSLContext:
    """Certifi's roots, or those of SSL_CERT_FILE or SSL_CERT_DIR: all that is taken from the environment."""
    return httpx.create_ssl_context(trust_env=True)


def submit_transport(context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """The transport of httpx itself: its exceptions tell a connection never made from an answer lost.

    HTTP/1.1 only and without idle connections: one that fal has just closed would lose a request that fal
    never saw. The number of connections is bounded by the caller: a limit in this pool loses a place for good
    when a waiting task is cancelled at the wrong moment (httpcore 1.0.9 keeps the connection it had just
    assigned).
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return Transport(verify=context, trust_env=False, http1=True, http2=False, limits=limits, retries=0)


def read_transport(context: ssl.SSLContext, max_connections: int) -> httpx.AsyncBaseTransport:
    """The faster transport, for calls that may be repeated: it reports lost answers as `ConnectTimeout`."""

    def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            trust_env=False,
        )

    return AiohttpTransport(verify=context, trust_env=False, client=open_session)


class Sending:
    """Watches one submit, so that no request goes out late, and none that has gone out is called not sent.

    Given to httpx as the `trace` extension, it is called before the first byte of the request is written.
    """

    def __init__(self, send_by: float) -> None:
        self.has_begun = False
        self._send_by = send_by

    async def __call__(self, event: str, info: object) -> None:
        """Raise ConnectTimeout when the connection stands only after `send_by`."""
        del info
        if event == "http11.send_request_headers.started":
            if time.monotonic() > self._send_by:
                raise httpx.ConnectTimeout("connected too late to be sent")
            self.has_begun = True

    @property
    def seconds_left(self) -> float:
        """Until nothing may be sent any more; never negative."""
        return max(0.0, self._send_by - time.monotonic())


async def exchange(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, *, most_bytes: int, scrub: "Scrubber"
) -> Reply:
    """Send one request and read its whole reply.

    Raises whatever the transport raises, or ReplyUnreadableError.
    """
    response = await transport.handle_async_request(request)
    async with aclosing(response):
        if response.headers.get("content-encoding", "identity").lower() not in {"identity", "gzip"}:
            raise ReplyUnreadableError("in an encoding that was not asked for")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > most_bytes:
                raise ReplyUnreadableError(f"longer than {most_bytes} bytes")
    headers = {name.lower(): scrub.text(value) for name, value in response.headers.items()}
    return Reply(response.status_code, headers, scrub.bytes(bytes(body)))


class Scrubber:
    """Takes keys of fal's, and the secret half of each alone, out of all that is carried on: a last line of defence."""

    def __init__(self, *keys: SecretStr) -> None:
        texts = [key.get_secret_value() for key in keys]
        halves = [part for text in texts for part in (text, text.rpartition(":")[2])]
        self._secrets = [secret for secret in halves if len(secret) >= _SCRUBBED_FROM]

    def text(self, text: str) -> str:
        """The text without the key."""
        for secret in self._secrets:
            text = text.replace(secret, "[FAL_KEY]")
        return text

    def reason(self, error: Exception) -> str:
        """What went wrong on the way, in one bounded line."""
        return clean(self.text(f"{type(error).__name__}: {error}".removesuffix(": ")), _REASON_CHARACTERS)

    def bytes(self, body: bytes) -> bytes:
        """The body without the key."""
        for secret in self._secrets:
            body = body.replace(secret.encode("ascii"), b"[FAL_KEY]")
        return body

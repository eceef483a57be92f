"""The videos at fal's CDN: public files, fetched without any key, in pieces, from nowhere that we should not go."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urljoin

import httpx

from app.fal.wire import trust
from app.outward.addresses import Address
from app.outward.dns import Resolve, resolve
from app.outward.pinned import NotAllowed, find_addresses, pinned_request
from app.outward.targets import Target, parse_target, refusal_of
from app.outward.transport import Transport

READ_SECONDS: Final = 30.0
"""From one piece of a video to the next, and until the first."""
OPEN_SECONDS: Final = 40.0
"""Until a video begins, redirects and all: less than a request of ours may last."""
_REDIRECTS: Final = 3
_AHEAD_BYTES: Final = 262_144
_SOCKET: Final = [(socket.SOL_SOCKET, socket.SO_RCVBUF, _AHEAD_BYTES)]
"""How far a source gets ahead of its caller: all that lies in the kernel is taken in at one go, megabytes else."""
_LONGEST_HEADER: Final = 200

_OK: Final = 200
_PARTIAL: Final = 206
_FORBIDDEN: Final = 403
_NOT_SATISFIABLE: Final = 416
_GONE: Final = frozenset({404, 410})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_UNSATISFIED: Final = re.compile(r"bytes \*/([0-9]{1,18})")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_BINARY: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_MEDIA: Final = ("video/", "audio/", "image/")


class DownloadGone(Exception):  # noqa: N818  a fact
    """fal keeps this file no longer, or never had it: 404 or 410."""


class DownloadTrouble(Exception):  # noqa: N818  a fact
    """No file, and no word about whether there is one. It holds nothing of the answer but its status."""

    def __init__(self, reason: str, *, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class OutOfRange(Exception):  # noqa: N818  a fact
    """The file is shorter than the range that was asked for: 416. `size` where it was told."""

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.size = size


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that has begun to come: iterate over it, and close it in any case.

    `length` is that of what comes, `total` that of the whole file, each None where the source does not say.
    `start` is None for the whole file, which a source that takes no ranges sends whatever was asked for.
    """

    response: httpx.Response
    transport: httpx.AsyncBaseTransport
    content_type: str | None
    length: int | None
    start: int | None
    total: int | None
    etag: str | None
    last_modified: str | None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Pieces of some 64 KB, as fast as they are taken, `length` in all.

        Raises DownloadTrouble when it breaks off, and when more or less comes than was said: of a part its
        Content-Range says how much, whatever its Content-Length.
        """
        came = 0
        try:
            async for chunk in self.response.aiter_raw():
                came += len(chunk)
                if self.length is not None and came > self.length:
                    raise DownloadTrouble("more came than it had said")
                yield chunk
        except httpx.HTTPError as error:
            raise DownloadTrouble(f"it broke off: {type(error).__name__}") from None
        if self.length is not None and came < self.length:
            raise DownloadTrouble("less came than it had said")

    async def aclose(self) -> None:
        """Let go of the connection, also in the middle."""
        try:
            await self.response.aclose()
        finally:
            await self.transport.aclose()


class Downloads:
    """Opens files by the URLs of fal's answers. No key, cookie, proxy or connection used before.

    A URL must be https and lead to public addresses, which are looked at and then held to; or lie in the very origin
    of one of `fal_urls`, which is how the sandbox's do.
    """

    def __init__(
        self,
        *,
        fal_urls: Iterable[str],
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._origins = {(at.scheme, at.host, at.port) for at in map(parse_target, fal_urls)}
        self._tls = trust() if tls is None else tls
        self._resolve = resolve
        self._read_seconds = read_seconds

    def may_name(self, url: str) -> bool:
        """Whether a caller may be sent to this URL: as `open` would take it, as far as can be told without DNS."""
        try:
            return self._is_of_fal(parse_target(url)) or refusal_of(url, allow_private=False) is None
        except ValueError:
            return False

    async def open(
        self,
        url: str,
        *,
        method: Literal["GET", "HEAD"] = "GET",
        byte_range: str | None = None,
        if_range: str | None = None,
    ) -> Download:
        """Begin a download; `byte_range` as a Range header has it. The caller closes it.

        Raises DownloadGone, OutOfRange or DownloadTrouble.
        """
        headers = {} if byte_range is None else {"Range": byte_range}
        if byte_range is not None and if_range is not None:
            headers["If-Range"] = if_range
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._follow(method, url, headers)
        except (TimeoutError, httpx.TimeoutException):
            raise DownloadTrouble("no answer in time") from None
        except NotAllowed:
            raise DownloadTrouble("the host leads to an address that is not public") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadTrouble(f"the connection broke: {type(error).__name__}") from None

    async def _follow(self, method: str, url: str, headers: dict[str, str]) -> Download:
        is_first = True
        for _ in range(_REDIRECTS + 1):
            target, addresses = await self._places(url, is_first=is_first)
            response, transport = await self._begin(method, target, addresses, headers)
            try:
                if response.status_code not in _MOVED:
                    return _read_head(response, transport, asked=headers.get("Range"))
                url = urljoin(url, response.headers.get("location", ""))
            except BaseException:
                await _close(response, transport)
                raise
            await _close(response, transport)
            is_first = False
        raise DownloadTrouble("too many redirects")

    async def _places(self, url: str, *, is_first: bool) -> tuple[Target, list[Address | None]]:
        """Where to connect. A redirect never leads into fal's own origin, which may be inside."""
        try:
            target = parse_target(url)
        except ValueError as error:
            raise DownloadTrouble(f"the URL {error}") from None
        if is_first and self._is_of_fal(target):
            return target, [None]
        refused = refusal_of(url, allow_private=False)
        if refused is not None:
            raise DownloadTrouble(f"the URL {refused}")
        addresses = await find_addresses(target, allow_private=False, resolve=self._resolve)
        if not addresses:
            raise DownloadTrouble("the host's name could not be resolved")
        return target, list(addresses)

    def _is_of_fal(self, target: Target) -> bool:
        return (target.scheme, target.host, target.port) in self._origins

    async def _begin(
        self, method: str, target: Target, addresses: list[Address | None], headers: dict[str, str]
    ) -> tuple[httpx.Response, httpx.AsyncBaseTransport]:
        for address in addresses:
            request = pinned_request(method, target, address, headers=headers, read_seconds=self._read_seconds)
            transport = Transport(
                verify=self._tls, trust_env=False, http1=True, http2=False, retries=0, socket_options=_SOCKET
            )
            try:
                return await transport.handle_async_request(request), transport
            except BaseException as error:
                await transport.aclose()
                if address is addresses[-1] or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise
        raise AssertionError  # there is one at least


def _read_head(response: httpx.Response, transport: httpx.AsyncBaseTransport, *, asked: str | None) -> Download:
    """What comes, as its head says. Raises what it says instead."""
    code, headers = response.status_code, response.headers
    if code in _GONE:
        raise DownloadGone
    if code == _NOT_SATISFIABLE and asked is not None:
        size = _UNSATISFIED.fullmatch(headers.get("content-range", ""))
        raise OutOfRange(int(size[1]) if size else None)
    if code not in {_OK, _PARTIAL}:
        raise DownloadTrouble(f"it answered {code}", code=code)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise DownloadTrouble("in an encoding that was not asked for")
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _BINARY and not content_type.startswith(_MEDIA):
        raise DownloadTrouble("it answered with something that is no video")
    told = headers.get("content-length", "")
    length = int(told) if _LENGTH.fullmatch(told) else None
    start, total = None, length
    if code == _PARTIAL:
        start, length, total = _read_range(headers.get("content-range", ""), asked)
    return Download(
        response=response,
        transport=transport,
        content_type=None if content_type in _BINARY else content_type,
        length=length,
        start=start,
        total=total,
        etag=_bounded(headers.get("etag")),
        last_modified=_bounded(headers.get("last-modified")),
    )


def _read_range(told: str, asked: str | None) -> tuple[int, int, int | None]:
    """Start, length and the size of the whole; what was not asked for is not passed off as what was."""
    found = _CONTENT_RANGE.fullmatch(told)
    if found is None or asked is None:
        raise DownloadTrouble("a part that does not say which")
    start, end = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    first = asked.removeprefix("bytes=").partition("-")[0]
    if end < start or (total is not None and end >= total) or (first and start != int(first)):
        raise DownloadTrouble("another part than was asked for")
    return start, end - start + 1, total


def _bounded(value: str | None) -> str | None:
    return value if value and len(value) <= _LONGEST_HEADER and value.isascii() and value.isprintable() else None


async def _close(response: httpx.Response, transport: httpx.AsyncBaseTransport) -> None:
    await response.aclose()
    await transport.aclose()

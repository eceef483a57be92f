"""fal's storage: where an image goes before a job can name it. Asked with our key, filled without it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
from pydantic import SecretStr

from app.fal.errors import read_error
from app.fal.messages import Reply
from app.fal.outcomes import RefusedUs, Trouble
from app.fal.paths import FalUrl
from app.fal.wire import Scrubber, exchange, submit_transport, trust

_INITIATE_BYTES: Final = 262_144
_STORED_BYTES: Final = 262_144  # what a store says of a PUT is not looked at
_CLIENT_ERRORS: Final = range(400, 500)
_BUSY: Final = "too many uploads at once"


@dataclass(frozen=True, slots=True)
class Initiated:
    """fal has made room for one file. Whoever has `upload_url` may fill it, once; `file_url` is where it then is."""

    upload_url: str = field(repr=False)
    file_url: str


@dataclass(frozen=True, slots=True)
class Stored:
    """fal has the bytes."""


class Storage:
    """A client of fal's storage, safe to share between tasks; closed by `aclose`.

    `fal_key` goes to `rest_url` and nowhere else: the URL that fal names for the bytes is called without it. That one
    must be https, or lie in the very origin of one of `fal_urls`, which is how the sandbox's does. `initiate` takes at
    most `initiate_seconds`, `put` at most `put_seconds`; raises ValueError on URLs that cannot be used.
    """

    def __init__(
        self,
        *,
        fal_key: SecretStr,
        rest_url: str,
        fal_urls: Iterable[str] = (),
        connect_seconds: float = 5,
        initiate_seconds: float = 12,
        put_seconds: float = 35,
        max_concurrent: int = 20,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.longest_seconds = initiate_seconds + put_seconds
        self._url = FalUrl(rest_url)
        self._homes = [self._url, *map(FalUrl, fal_urls)]
        self._fal_key = fal_key
        self._scrub = Scrubber(fal_key)
        self._connect_seconds = connect_seconds
        self._initiate_seconds = initiate_seconds
        self._put_seconds = put_seconds
        self._transport = submit_transport(trust() if tls is None else tls)
        self._places = asyncio.Semaphore(max_concurrent)

    def __repr__(self) -> str:
        return f"Storage({str(self._url)!r})"

    async def initiate(self, *, content_type: str, name: str) -> Initiated | RefusedUs | Trouble:
        """Ask for room for one file (FAL.md 5). May be repeated: room that stays empty costs nothing.

        `content_type` and `name` are ours, checked before: so every 4xx is a refusal of us.
        """
        request = httpx.Request(
            "POST",
            self._url.at("/storage/upload/initiate", {"storage_type": "fal-cdn-v3"}),
            headers={
                "Authorization": f"Key {self._fal_key.get_secret_value()}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": "falgate",
            },
            content=json.dumps({"content_type": content_type, "file_name": name}).encode("ascii"),
        )
        reply = await self._send(request, most_bytes=_INITIATE_BYTES, within_seconds=self._initiate_seconds)
        if isinstance(reply, Trouble):
            return reply
        if reply.code in _CLIENT_ERRORS:
            return RefusedUs(reply.code, read_error(reply).detail, reply.retry_after_seconds)
        return self._read_initiated(reply)

    async def put(
        self, upload_url: str, content: AsyncIterable[bytes], *, size_bytes: int, content_type: str
    ) -> Stored | Trouble:
        """Fill the room that `initiate` was given, with exactly `size_bytes`."""
        headers = {"Content-Type": content_type, "Content-Length": str(size_bytes), "User-Agent": "falgate"}
        try:
            request = httpx.Request("PUT", upload_url, headers=headers, content=content)
        except (httpx.InvalidURL, ValueError) as reason:
            return Trouble(self._scrub.reason(reason))
        reply = await self._send(request, most_bytes=_STORED_BYTES, within_seconds=self._put_seconds)
        if isinstance(reply, Trouble):
            return reply
        return Stored() if reply.code in range(200, 300) else _trouble(reply)

    async def aclose(self) -> None:
        """Close every connection. The storage is not used afterwards."""
        await self._transport.aclose()

    def _read_initiated(self, reply: Reply) -> Initiated | Trouble:
        if reply.code not in range(200, 300) or reply.json is None:
            return _trouble(reply)
        upload_url, file_url = (self._checked(reply.json.get(name)) for name in ("upload_url", "file_url"))
        if upload_url is None or file_url is None:
            return Trouble("fal named a URL for a file that is neither https nor its own", reply.code)
        return Initiated(upload_url, file_url)

    def _checked(self, returned: object) -> str | None:
        return (
            returned if any(home.takes_file(returned) for home in self._homes) and isinstance(returned, str) else None
        )

    async def _send(self, request: httpx.Request, *, most_bytes: int, within_seconds: float) -> Reply | Trouble:
        timeout = httpx.Timeout(within_seconds, connect=self._connect_seconds)
        request.extensions = {"timeout": timeout.as_dict()}
        try:
            async with asyncio.timeout(within_seconds), self._place():
                return await exchange(self._transport, request, most_bytes=most_bytes, scrub=self._scrub)
        except Exception as reason:  # noqa: BLE001  whatever went wrong on the way, the file can be sent anew
            return Trouble(self._scrub.reason(reason))

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(_BUSY) from None
        try:
            yield
        finally:
            self._places.release()


def _trouble(reply: Reply) -> Trouble:
    return Trouble(f"fal answered {reply.code}", reply.code, reply.retry_after_seconds)

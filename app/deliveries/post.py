"""One try: a POST to an address that was checked first, over a connection of its own."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import httpx

from app.deliveries.retries import read_retry_after
from app.outward.addresses import Address
from app.outward.dns import Resolve, resolve
from app.outward.pinned import NotAllowed, find_addresses, pinned_request
from app.outward.targets import Target, parse_target, refusal_of
from app.outward.transport import Transport

TRY_SECONDS: Final = 15.0
_READ_BYTES: Final = 16_384
_ANSWER_BYTES: Final = 65_536  # its head, what comes before it, and what is read of its body
_PIECE_BYTES: Final = 2_048  # parsed without a pause
_READ_SECONDS: Final = 1.0
_GONE: Final = 410

Outcome = Literal["delivered", "answered", "gone", "timeout", "unreachable", "not_allowed", "unsigned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a try came to. `error` is ours to show: it holds nothing of the answer but its status."""

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    asked_seconds: float | None = None


class Sending:
    """Whether a byte of the request may have gone out; and the bound on what comes back."""

    has_begun = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Httpcore's `trace`: called when there is a connection, and before the first byte is written."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            _bound(info["return_value"])
        if event.endswith("send_request_headers.started"):
            self.has_begun = True


def _bound(stream: Any) -> None:
    """End a connection after so many bytes, and read them in pieces, so that others have their turn in between.

    httpcore passes over 1xx answers without end, thousands in one go: a receiver that sends nothing else would stop us.
    """
    read, left = stream.read, _ANSWER_BYTES

    async def read_bounded(max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  as httpcore has it
        nonlocal left
        data: bytes = await read(min(max_bytes, left, _PIECE_BYTES), timeout) if left else b""
        left -= len(data)
        return data

    stream.read = read_bounded


class Post:
    """Sends webhooks. No redirect, proxy, cookie or connection used before; of the answer little more than a status."""

    def __init__(
        self,
        *,
        allow_private: bool,
        tls: ssl.SSLContext,
        resolve: Resolve = resolve,
        try_seconds: float = TRY_SECONDS,
    ) -> None:
        self._allow_private = allow_private
        self._tls = tls
        self._resolve = resolve
        self._try_seconds = try_seconds

    async def send(
        self, url: str, body: bytes, headers: Mapping[str, str], *, sending: Sending, now: datetime
    ) -> Tried:
        """Try once, for `try_seconds` at most. Raises nothing of the network's."""
        try:
            async with asyncio.timeout(self._try_seconds):
                return await self._send(url, body, headers, sending=sending, now=now)
        except (TimeoutError, httpx.TimeoutException):
            return Tried(outcome="timeout", error="no answer in time")
        except NotAllowed:
            return Tried(outcome="not_allowed", error="the host leads to an address that webhooks may not go to")
        except httpx.HTTPError:
            return Tried(outcome="unreachable", error="the connection broke before an answer")

    async def _send(
        self, url: str, body: bytes, headers: Mapping[str, str], *, sending: Sending, now: datetime
    ) -> Tried:
        refused = refusal_of(url, allow_private=self._allow_private)
        if refused is not None:
            return Tried(outcome="not_allowed", error=f"the URL {refused}")
        target = parse_target(url)
        addresses = await find_addresses(target, allow_private=self._allow_private, resolve=self._resolve)
        if not addresses:
            return Tried(outcome="unreachable", error="the host's name could not be resolved")
        tried = Tried(outcome="unreachable", error="no connection")
        for address in addresses:
            try:
                return await self._exchange(target, address, body, headers, sending=sending, now=now)
            except httpx.ConnectTimeout:
                tried = Tried(outcome="timeout", error="no connection in time")
            except httpx.ConnectError as error:
                tried = Tried(outcome="unreachable", error=_why(error))
        return tried

    async def _exchange(
        self,
        target: Target,
        address: Address,
        body: bytes,
        headers: Mapping[str, str],
        *,
        sending: Sending,
        now: datetime,
    ) -> Tried:
        request = pinned_request(
            "POST",
            target,
            address,
            content=body,
            headers={"Content-Type": "application/json", **headers},
            read_seconds=self._try_seconds,
            trace=sending,
        )
        transport = Transport(verify=self._tls, trust_env=False, http1=True, http2=False, retries=0)
        async with transport:
            response = await transport.handle_async_request(request)
            try:
                await _read_some(response)
                return _judge(response, now=now)
            finally:
                await response.aclose()


async def _read_some(response: httpx.Response) -> None:
    """As much as a polite receiver sends, so that its connection ends in order; never unpacked, and not kept."""
    read = 0
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read > _READ_BYTES:
                    return


def _judge(response: httpx.Response, *, now: datetime) -> Tried:
    status = response.status_code
    if response.is_success:
        return Tried(outcome="delivered", status=status)
    if status == _GONE:
        return Tried(outcome="gone", status=status, error="answered 410: the receiver wants no more of it")
    followed = ", and redirects are not followed" if response.is_redirect else ""
    asked = read_retry_after(response.headers.get("retry-after"), now=now)
    return Tried(outcome="answered", status=status, error=f"answered {status}{followed}", asked_seconds=asked)


def _why(error: BaseException) -> str:
    """Whether TLS or the network refused; what is called cannot be told from it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "no connection: the certificate is not trusted, or not the host's"
        if isinstance(cause, ssl.SSLError):
            return "no connection: no TLS with the host"
        cause = cause.__cause__ or cause.__context__
    return "no connection"

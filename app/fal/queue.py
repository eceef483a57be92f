"""fal's queue: submit, status, result and cancel, each returning what it came to."""

import asyncio
import hashlib
import json
import re
import ssl
import time
from typing import Final

import httpx
from pydantic import SecretStr

from app.fal.messages import Reply
from app.fal.outcomes import (
    CancelOutcome,
    Completed,
    NotSent,
    RequestRef,
    ResultOutcome,
    StatusOutcome,
    SubmitOutcome,
    Trouble,
    Unknown,
)
from app.fal.paths import FalUrl, endpoint_path
from app.fal.verdicts import read_cancel, read_result, read_status, read_submit
from app.fal.wire import Scrubber, Sending, exchange, read_transport, submit_transport, trust

SEND_SECONDS: Final = 5  # no POST goes out more than 5 s after its `submitting` commit (DESIGN.md, section 3)
SPARE_SECONDS: Final = 20  # beyond connect + read, for the body's way out; a lease outlasts connect + read + 30 s
ANSWER_BYTES: Final = 1_048_576  # of a status or a cancel
LOG_BYTES: Final = 8_000_000  # of a status with its log
RESULT_BYTES: Final = 20_000_000  # a 422 may echo the whole input, an image of up to 15,000,000 bytes in it

_KEY: Final = re.compile(r"[!-~]{1,1000}")


def key_id_of(fal_key: SecretStr) -> str:
    """A name for the key that holds no part of it."""
    return hashlib.sha256(fal_key.get_secret_value().encode("ascii")).hexdigest()[:16]


class Queue:
    """A client of fal's queue, safe to share between tasks, for one FAL_KEY and one FAL_QUEUE_URL.

    It belongs to the event loop it is first used in, and is closed by `aclose`. A call never takes longer
    than `longest_seconds`. `tls` is `trust()`, which may be shared with others. `key_id` names the key
    without holding any part of it. Raises ValueError on a key or URL that cannot be used, without showing it.
    """

    def __init__(
        self,
        *,
        fal_key: SecretStr,
        queue_url: str,
        connect_seconds: float = 10,
        read_seconds: float = 30,
        max_concurrent: int = 100,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not _KEY.fullmatch(fal_key.get_secret_value()):
            raise ValueError("FAL_KEY holds characters that cannot be sent")
        self.key_id = key_id_of(fal_key)
        self.longest_seconds = connect_seconds + read_seconds + SPARE_SECONDS
        self._url = FalUrl(queue_url)
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._scrub = Scrubber(fal_key)
        # httpx.Headers hides Authorization in its repr
        self._headers = httpx.Headers(
            {
                "Authorization": f"Key {fal_key.get_secret_value()}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # so that a limit in bytes is one in memory too
                "User-Agent": "falgate",
            }
        )
        context = trust() if tls is None else tls
        self._submits = submit_transport(context)
        self._reads = read_transport(context, max_concurrent)
        self._submit_places = asyncio.Semaphore(max_concurrent)

    def __repr__(self) -> str:
        return f"Queue({str(self._url)!r}, key_id={self.key_id!r})"

    async def submit(
        self,
        endpoint: str,
        body: dict[str, object],
        *,
        start_seconds: int,
        webhook_url: str | None = None,
        send_by: float | None = None,
    ) -> SubmitOutcome:
        """Send the model input itself, once. Fal drops it unless it starts in `start_seconds` (FAL.md 1.7).

        Nothing goes out after `send_by`, a moment of `time.monotonic()`; by default 5 s from now. Raises
        ValueError or TypeError, before anything is sent, on an endpoint that cannot be one or a body that is
        no JSON.
        """
        request = self._submit_request(endpoint, body, start_seconds, webhook_url)
        sending = Sending(time.monotonic() + SEND_SECONDS if send_by is None else send_by)
        try:
            async with asyncio.timeout(self.longest_seconds):
                reply = await self._send(request, sending)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as reason:
            # Of httpx's own transport these mean that there was no connection to send on. The watch makes
            # sure of it.
            said = self._scrub.reason(reason)
            return Unknown(said, None) if sending.has_begun else NotSent(said)
        except Exception as reason:  # noqa: BLE001 - whatever else went wrong, fal may have the request
            return Unknown(self._scrub.reason(reason), None)
        return read_submit(reply, endpoint=endpoint, queue_url=self._url)

    async def status(self, ref: RequestRef, *, with_log: bool = False) -> StatusOutcome:
        """Where the request stands, and with its log what the model has written so far."""
        most_bytes, asked = (LOG_BYTES, "1") if with_log else (ANSWER_BYTES, "0")
        reply = await self._ask("GET", ref.status_path, most_bytes, query={"logs": asked})
        return reply if isinstance(reply, Trouble) else read_status(reply)

    async def result(self, ref: RequestRef, completed: Completed) -> ResultOutcome:
        """What became of a request whose status body said COMPLETED."""
        reply = await self._ask("GET", ref.result_path, RESULT_BYTES)
        return reply if isinstance(reply, Trouble) else read_result(reply, ref, completed)

    async def cancel(self, ref: RequestRef) -> CancelOutcome:
        """Ask fal to let go of it. May be repeated."""
        reply = await self._ask("PUT", ref.cancel_path, ANSWER_BYTES)
        return reply if isinstance(reply, Trouble) else read_cancel(reply)

    async def aclose(self) -> None:
        """Close every connection. The queue is not used afterwards."""
        try:
            await self._reads.aclose()
        finally:
            await self._submits.aclose()

    def _submit_request(
        self, endpoint: str, body: dict[str, object], start_seconds: int, webhook_url: str | None
    ) -> httpx.Request:
        query = {"fal_webhook": webhook_url} if webhook_url is not None else None
        headers = httpx.Headers(self._headers)
        headers.update(
            {
                "Content-Type": "application/json",
                "Connection": "close",  # fal is told too that nothing follows on this connection
                "X-Fal-Request-Start-Timeout": str(start_seconds),
                "X-Fal-Request-Timeout": str(start_seconds),  # the older name of the same
            }
        )
        content = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
        return httpx.Request("POST", self._url.at(endpoint_path(endpoint), query), headers=headers, content=content)

    async def _send(self, request: httpx.Request, sending: Sending) -> Reply:
        try:
            async with asyncio.timeout(sending.seconds_left):
                await self._submit_places.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("too many submits at once") from None
        try:
            request.extensions = {
                "trace": sending,
                "timeout": self._timeout(connect=min(self._connect_seconds, sending.seconds_left)),
            }
            return await exchange(self._submits, request, most_bytes=RESULT_BYTES, scrub=self._scrub)
        finally:
            self._submit_places.release()

    async def _ask(
        self, method: str, path: str, most_bytes: int, query: dict[str, str] | None = None
    ) -> Reply | Trouble:
        extensions = {"timeout": self._timeout(connect=self._connect_seconds)}
        try:
            request = httpx.Request(method, self._url.at(path, query), headers=self._headers, extensions=extensions)
            async with asyncio.timeout(self.longest_seconds):
                return await exchange(self._reads, request, most_bytes=most_bytes, scrub=self._scrub)
        except Exception as reason:  # noqa: BLE001 - aiohttp's own exceptions pass its transport now and then
            return Trouble(self._scrub.reason(reason))

    def _timeout(self, *, connect: float) -> dict[str, float | None]:
        # aiohttp counts the making of a connection into `pool`
        timeout = httpx.Timeout(self._read_seconds, connect=connect, pool=self._connect_seconds)
        return timeout.as_dict()

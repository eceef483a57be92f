"""A video on its way to its caller: no faster than it is taken, let go of when nobody takes it any more."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app import logs
from app.fal import DownloadTrouble
from app.http import hung_up
from app.output_store import NotStored, StoreTrouble
from app.outputs.serving import Content

log = logging.getLogger("falgate.outputs")

STALL_SECONDS: Final = 300.0
"""How long a caller may take nothing, as a player does that is paused: it asks for the rest when it goes on."""
_LEAVE_SECONDS: Final = 2.0


class VideoResponse(Response):
    """Sends a Content and closes it; return it at once. `give_back` is called at the end, however that comes.

    When the gateway is told to end (`stopping`), what is nearly done is let finish and the rest is cut off: whoever
    wants it asks the next process from there.
    """

    def __init__(self, content: Content, *, stopping: asyncio.Event, give_back: Callable[[], None]) -> None:
        super().__init__(status_code=content.status, headers=content.headers)
        if "Content-Length" not in content.headers:
            del self.headers["content-length"]  # Starlette believes that there is no body
        self._content = content
        self._stopping = stopping
        self._give_back = give_back

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, all or until something ends it."""
        scope["patience"].last(math.inf)  # STALL_SECONDS bounds it instead
        sending = asyncio.create_task(self._send(scope["method"] == "HEAD", send))
        ends = [asyncio.create_task(hung_up(receive)), asyncio.create_task(self._has_to_leave())]
        try:
            await asyncio.wait([sending, *ends], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, *ends):
                task.cancel()
            await asyncio.wait([sending, *ends])
            self._give_back()
            await self._content.close()
        error = None if sending.cancelled() else sending.exception()
        if error is not None:
            self._tell(error)
        logs.is_broken_off.set(sending.cancelled() or error is not None)

    async def _send(self, is_head: bool, send: Send) -> None:  # noqa: FBT001  one caller, above
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(STALL_SECONDS):
                await send(message)

        await in_time({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not is_head:
            async with aclosing(self._content.chunks) as chunks:
                async for chunk in chunks:
                    await in_time({"type": "http.response.body", "body": chunk, "more_body": True})
        await in_time({"type": "http.response.body", "body": b"", "more_body": False})

    async def _has_to_leave(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(_LEAVE_SECONDS)

    def _tell(self, error: BaseException) -> None:
        """The caller sees an answer that is shorter than it was said to be, and the connection closed."""
        if isinstance(error, TimeoutError):
            log.info("a caller took nothing of a video for %.0f s", STALL_SECONDS)
        elif isinstance(error, DownloadTrouble | StoreTrouble | NotStored):
            log.warning("a video broke off on its way to a caller: %s", error)
        else:
            raise error

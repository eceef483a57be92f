"""A video on its way to its caller."""

import asyncio
import logging
from collections.abc import Callable

from app.fal import DownloadTrouble
from app.http import STALL_SECONDS, Streamed
from app.output_store import NotStored, StoreTrouble
from app.outputs.serving import Content

log = logging.getLogger("falgate.outputs")


class VideoResponse(Streamed):
    """Sends a Content and closes it; return it at once. `give_back` is called at the end, however that comes.

    A caller whose video is cut off sees that it is shorter than it was said to be, and asks for the rest.
    """

    def __init__(self, content: Content, *, stopping: asyncio.Event, give_back: Callable[[], None]) -> None:
        super().__init__(content.chunks, stopping=stopping, status=content.status, headers=content.headers)
        self._content = content
        self._give_back = give_back

    async def end(self) -> None:
        """Nobody reads it any more."""
        self._give_back()
        await self._content.close()

    def tell(self, error: BaseException) -> None:
        """One line for what is nobody's fault here."""
        if isinstance(error, TimeoutError):
            log.info("a caller took nothing of a video for %.0f s", STALL_SECONDS)
        elif isinstance(error, DownloadTrouble | StoreTrouble | NotStored):
            log.warning("a video broke off on its way to a caller: %s", error)
        else:
            raise error

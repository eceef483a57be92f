"""Whether the caller is still on the line while its answer is made."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from app.http import hung_up


class Line:
    """Listens to a request whose body has been read; nobody else may `receive` meanwhile. `close` it."""

    def __init__(self, request: Request) -> None:
        self._listening = asyncio.create_task(hung_up(request.receive))

    @property
    def is_gone(self) -> bool:
        """Whether the caller has hung up, as far as has been heard."""
        return self._listening.done()

    async def require_caller(self) -> None:
        """Raise ClientDisconnect when the caller has hung up: nobody would hear the answer."""
        await asyncio.sleep(0)  # what the connection knows, the listener hears now
        if self.is_gone:
            raise ClientDisconnect

    async def wait(self, awaited: "asyncio.Task[object]") -> None:
        """Until it is done. Raises ClientDisconnect, with the task cancelled, when the caller hangs up before."""
        try:
            await asyncio.wait({awaited, self._listening}, return_when=asyncio.FIRST_COMPLETED)
            if not awaited.done():
                raise ClientDisconnect
        finally:
            awaited.cancel()

    def close(self) -> None:
        """Listen no more."""
        self._listening.cancel()

"""Asking DNS without making anybody wait: a thread a question, which ends with the process if nobody answers.

The loop's own `getaddrinfo` shares a handful of threads with all else: a few slow name servers would stop every
delivery, and a thread of a pool is waited for when the process ends.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → the addresses in the order in which to try them, none if there is no such name."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name; waits for as long as the caller does."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[str]] = loop.create_future()

    def tell(found: Sequence[str]) -> None:
        if not answer.done():
            answer.set_result(found)

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except (OSError, UnicodeError):
            infos = []
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, list(dict.fromkeys(str(info[4][0]) for info in infos)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    return await answer

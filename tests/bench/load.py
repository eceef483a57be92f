"""A load generator that costs little: raw HTTP/1.1 over kept connections, each caller asking as soon as answered.

Or after a pause, as a client does that waits for a job.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

OF_ITS_OWN_SECONDS = (0.001, 0.006)
"""What a caller that pauses takes itself between an answer and its pause: fal's Python client some milliseconds."""


@dataclass
class Load:
    """What a run of load came to."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class _Caller(asyncio.Protocol):
    def __init__(
        self, load: Load, request: Callable[[], bytes], until: float, *, keep: bool, pause_seconds: float
    ) -> None:
        self._load, self._request, self._until, self._keep = load, request, until, keep
        self._pause_seconds = pause_seconds
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        if self._pause_seconds:  # callers do not come at one moment
            asyncio.get_running_loop().call_later(random.uniform(0, self._pause_seconds), self._send)
        else:
            self._send()

    def _go_on(self) -> None:
        if self._pause_seconds:
            asyncio.get_running_loop().call_later(self._pause_seconds + random.uniform(*OF_ITS_OWN_SECONDS), self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        now = time.perf_counter()
        self._load.latencies.append(now - self._sent_at)
        self._load.statuses[int(head[9:12])] += 1
        if self._keep:
            self._load.bodies.append(rest[:length])
        self._buffer = rest[length:]
        if now < self._until:
            self._go_on()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            if exc is not None or time.perf_counter() < self._until:
                self.done.set_exception(exc or ConnectionError("closed in the middle"))
            else:
                self.done.set_result(None)


def http(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request, written out."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def run_load(
    port: int,
    request: Callable[[], bytes],
    *,
    callers: int,
    seconds: float,
    keep: bool = False,
    pause_seconds: float = 0.0,
) -> Load:
    """So many callers on 127.0.0.1:`port`, for so long; each pauses so long before it asks."""
    loop = asyncio.get_running_loop()
    load = Load(seconds)
    begun = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: _Caller(load, request, begun + seconds, keep=keep, pause_seconds=pause_seconds), "127.0.0.1", port
        )
        for _ in range(callers)
    ]
    await asyncio.gather(*(caller.done for _, caller in made))
    load.seconds = time.perf_counter() - begun
    return load

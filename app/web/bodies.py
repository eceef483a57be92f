"""The bodies of requests on their way in: how long one may be, how long it may take, how much all may hold."""

import asyncio
from typing import Final

from starlette.types import Message, Receive

from app.problems import BodyTooLarge, BodyTooSlow, TooBusy
from app.web.patience import Patience

BODY_SECONDS: Final = 60.0
"""From the first byte that is asked for to the last: 15 MB at 2 Mbit/s."""

_UNCOUNTED_BYTES: Final = 65_536  # what the server reads ahead of every request anyway
_MOST_IN_HAND_FACTOR: Final = 4
_DRAIN_FACTOR: Final = 4
_CLOSE: Final = {"Connection": "close"}


class Bodies:
    """What all bodies in hand in this process weigh together; the first 64 KiB of each are not counted."""

    def __init__(self, max_body_bytes: int) -> None:
        self.drain_bytes = max_body_bytes * _DRAIN_FACTOR
        self.most_bytes = max_body_bytes * _MOST_IN_HAND_FACTOR
        self.bytes_in_hand = 0

    def require_room(self, more_bytes: int) -> None:
        """Raise TooBusy unless so much more may be taken in."""
        if more_bytes and self.bytes_in_hand + more_bytes > self.most_bytes:
            raise TooBusy("Many large requests are being read just now. Send this one again in a moment.")


class Body:
    """A request's body, as an ASGI `receive` that refuses what is too long, too slow, or too much with the others.

    `release` it when the request is answered: until then it counts. Once it is whole, its request has `then_seconds`.
    """

    def __init__(
        self,
        receive: Receive,
        headers: dict[bytes, bytes],
        *,
        limit_bytes: int,
        among: Bodies,
        patience: Patience,
        then_seconds: float,
    ) -> None:
        self._receive = receive
        self._limit = limit_bytes
        self._among = among
        self._received = 0
        self._counted = 0
        self._patience = patience
        self._then_seconds = then_seconds
        self._has_begun = False
        self._is_whole = False
        self._announced = _length(headers.get(b"content-length", b""))
        self._sends_when_told = headers.get(b"expect", b"").lower() == b"100-continue"

    async def __call__(self) -> Message:
        """The next part. Raises BodyTooLarge, BodyTooSlow and TooBusy."""
        if self._is_whole:
            return await self._receive()  # whether the caller has hung up
        if not self._has_begun:
            self._has_begun = True
            self._patience.last(BODY_SECONDS)
            if self._announced > self._limit:
                await self._refuse(is_coming=not self._sends_when_told)
            self._among.require_room(max(0, self._announced - _UNCOUNTED_BYTES))
        message = await self._next()
        if self._received > self._limit:
            await self._refuse(is_coming=not self._is_whole)
        self._count()
        return message

    def release(self) -> None:
        """Nobody holds it any more."""
        self._among.bytes_in_hand -= self._counted
        self._counted = 0

    def _count(self) -> None:
        more = self._received - _UNCOUNTED_BYTES - self._counted
        if more > 0:
            self._among.require_room(more)
            self._among.bytes_in_hand += more
            self._counted += more

    async def _next(self) -> Message:
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._patience.is_over:
                raise
            self._patience.forgive()
            raise BodyTooSlow(
                "Send the body faster, or an image as an https link.", headers=_CLOSE, within_seconds=BODY_SECONDS
            ) from None
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._is_whole:
            self._patience.last(self._then_seconds)
        return message

    async def _refuse(self, *, is_coming: bool) -> None:
        """Read some of the rest first: a client that is still writing would never see the answer."""
        while is_coming and self._received <= self._among.drain_bytes:
            await self._next()
            is_coming = not self._is_whole
        raise BodyTooLarge(
            f"This route takes a body of at most {self._limit} bytes.", headers=_CLOSE, limit_bytes=self._limit
        )


def _length(value: bytes) -> int:
    return int(value) if value.isdigit() else 0

"""How many may wait at once with one key: each event stream and each `Prefer: wait` takes a seat, and gives it back."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from fastapi.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from app.problems import Problem

SEATS_A_KEY: Final = 500
"""In one process. One wait costs some 20 KB, and a look into the database each 15 s."""

_RETRY_AFTER_SECONDS: Final = 10


class TooManyStreams(Problem):
    """As many event streams and `Prefer: wait` requests as one key may have are open with this key.

    `limit` says how many that is. Close some, or follow many jobs with `GET /v1/jobs` instead of one stream for each;
    a submit that was refused this way has not been accepted.
    """

    status = 429


class Seats:
    """Those of one process, by the hash of the key's secret."""

    def __init__(self, most: int = SEATS_A_KEY) -> None:
        self.most = most
        self._taken: Counter[bytes] = Counter()

    @contextmanager
    def taken(self, secret_hash: bytes) -> Iterator[None]:
        """One seat, until the block ends. Raises TooManyStreams."""
        self.take(secret_hash)
        try:
            yield
        finally:
            self.give_back(secret_hash)

    def take(self, secret_hash: bytes) -> None:
        """One seat, until it is given back. Raises TooManyStreams."""
        if self._taken.get(secret_hash, 0) >= self.most:
            raise TooManyStreams(
                "Close some of the streams and waits that are open with this key, and ask again.",
                headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
                limit=self.most,
            )
        self._taken[secret_hash] += 1

    def give_back(self, secret_hash: bytes) -> None:
        """The seat is free."""
        self._taken[secret_hash] -= 1
        if not self._taken[secret_hash]:
            del self._taken[secret_hash]


class SeatedResponse(EventSourceResponse):
    """An event stream that takes a seat when it is made, and gives it back when it ends, however it does.

    Return it at once: one that is never sent keeps its seat. Raises TooManyStreams.
    """

    def __init__(
        self, content: AsyncIterator[bytes], *, seats: Seats, secret_hash: bytes, headers: Mapping[str, str]
    ) -> None:
        seats.take(secret_hash)
        self._give_back = partial(seats.give_back, secret_hash)
        super().__init__(content, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._give_back()

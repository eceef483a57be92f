"""How many may wait at once: each event stream and each `Prefer: wait` takes a seat, and gives it back."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from fastapi.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from app.accounts.callers import Credential
from app.problems import Problem

SEATS_A_KEY: Final = 500
"""In one process. One wait costs some 20 KB, and a look into the database each 15 s."""
SEATS_OF_ITS_TOKENS: Final = 5_000
"""The browsers of a key have seats apart from its own, so that neither crowds out the other."""
SEATS_A_VISITOR: Final = 50
"""Of those, for the tokens of one end user, or for one job."""

_RETRY_AFTER_SECONDS: Final = 10


class TooManyStreams(Problem):
    """As many event streams and `Prefer: wait` requests as one key or token may have are open with this one.

    `limit` says how many that is. Close some, or follow many jobs with `GET /v1/jobs` instead of one stream for each;
    a submit that was refused this way has not been accepted.
    """

    status = 429


class Seats:
    """Those of one process: of a key, by the hash of its secret; of its tokens, by whom they are for as well."""

    def __init__(
        self, most: int = SEATS_A_KEY, *, of_tokens: int = SEATS_OF_ITS_TOKENS, a_visitor: int = SEATS_A_VISITOR
    ) -> None:
        self.most = most
        self.of_tokens = of_tokens
        self.a_visitor = a_visitor
        self._taken: Counter[tuple[object, ...]] = Counter()

    @contextmanager
    def taken(self, credential: Credential) -> Iterator[None]:
        """One seat, until the block ends. Raises TooManyStreams."""
        self.take(credential)
        try:
            yield
        finally:
            self.give_back(credential)

    def take(self, credential: Credential) -> None:
        """One seat, until it is given back. Raises TooManyStreams."""
        rows = self._rows(credential)
        for row, most in rows:
            if self._taken.get(row, 0) >= most:
                raise TooManyStreams(
                    "Close some of the streams and waits that are open with this key or token, and ask again.",
                    headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
                    limit=most,
                )
        self._taken.update(row for row, _ in rows)

    def give_back(self, credential: Credential) -> None:
        """The seat is free."""
        for row, _ in self._rows(credential):
            self._taken[row] -= 1
            if not self._taken[row]:
                del self._taken[row]

    def _rows(self, credential: Credential) -> list[tuple[tuple[object, ...], int]]:
        """What a seat counts in, and how many each has."""
        secret_hash, grant = credential.secret_hash, credential.grant
        if grant is None:
            return [((secret_hash,), self.most)]
        visitor = (secret_hash, grant.end_user, grant.job_id)
        return [(visitor, self.a_visitor), ((secret_hash, "tokens"), self.of_tokens)]


class SeatedResponse(EventSourceResponse):
    """An event stream that takes a seat when it is made, and gives it back when it ends, however it does.

    Return it at once: one that is never sent keeps its seat. Raises TooManyStreams.
    """

    def __init__(
        self, content: AsyncIterator[bytes], *, seats: Seats, credential: Credential, headers: Mapping[str, str]
    ) -> None:
        seats.take(credential)
        self._give_back = partial(seats.give_back, credential)
        super().__init__(content, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._give_back()

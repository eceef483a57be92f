"""What callers have put into fal's storage; the oldest is let go of first."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

MOST_FILES = 200  # initiated ones count too
MOST_BYTES = 100_000_000  # of one, and of all together


@dataclass(slots=True)
class File:
    """Room for one file, filled or not. Whoever knows `ticket` may fill it."""

    file_id: str
    ticket: str
    name: str
    content_type: str
    key_fingerprint: str
    content: bytes | None = None
    put_with_key: bool = False


class Uploads:
    """The files, by their two names."""

    def __init__(self) -> None:
        self._by_id: dict[str, File] = {}
        self._by_ticket: dict[str, File] = {}
        self._tokens: dict[str, str] = {}

    def __iter__(self) -> Iterator[File]:
        return iter(self._by_id.values())

    def make_room(self, *, name: str, content_type: str, key_fingerprint: str) -> File:
        """Return room for one more."""
        file = File(secrets.token_hex(8), secrets.token_hex(16), name, content_type, key_fingerprint)
        self._by_id[file.file_id] = self._by_ticket[file.ticket] = file
        self._let_go()
        return file

    def fill(self, file: File, content: bytes) -> None:
        """Keep its bytes."""
        file.content = content
        self._let_go()

    def find(self, file_id: str) -> File | None:
        """Return the file that is read under this id."""
        return self._by_id.get(file_id)

    def find_by_url(self, url: str) -> File | None:
        """Return the file that a job names by its URL."""
        return self.find(url.rpartition("/")[0].rpartition("/")[2])

    def find_room(self, ticket: str) -> File | None:
        """Return the file that this ticket fills."""
        return self._by_ticket.get(ticket)

    def mint(self, key_fingerprint: str) -> str:
        """Return a token as Python's client uploads with (FAL.md 5)."""
        token = secrets.token_hex(16)
        self._tokens[token] = key_fingerprint
        if len(self._tokens) > MOST_FILES:
            del self._tokens[next(iter(self._tokens))]
        return token

    def key_of(self, token: str) -> str | None:
        """Return the fingerprint of the key that this token was made with."""
        return self._tokens.get(token)

    def forget(self) -> None:
        """Let go of all."""
        self._by_id.clear()
        self._by_ticket.clear()
        self._tokens.clear()

    def _let_go(self) -> None:
        while len(self._by_id) > MOST_FILES or sum(len(file.content or b"") for file in self) > MOST_BYTES:
            oldest = self._by_id.pop(next(iter(self._by_id)))
            del self._by_ticket[oldest.ticket]

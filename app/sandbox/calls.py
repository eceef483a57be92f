"""One HTTP call as the rooms above read it."""

import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Call(NamedTuple):
    """The ASGI triple with names for what we look at."""

    scope: Scope
    receive: Receive
    send: Send

    @property
    def method(self) -> str:
        """GET, POST, …."""
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        """The path without slashes at its ends: fal is called with and without (FAL.md 1.2)."""
        return str(self.scope["path"]).strip("/")

    def header(self, name: bytes) -> str:
        """Return a header by its lower-case name, or an empty text."""
        for given, value in self.scope["headers"]:
            if given == name:
                return bytes(value).decode("latin-1")
        return ""

    def query(self) -> dict[str, str]:
        """Return the query; of a repeated name the last."""
        return {name: values[-1] for name, values in parse_qs(self.scope["query_string"].decode()).items()}

    def key(self) -> str:
        """Return what stands behind `Authorization: Key`, or an empty text (FAL.md 1.7)."""
        scheme, _, key = self.header(b"authorization").partition(" ")
        return key.strip() if scheme.lower() == "key" else ""

    def key_fingerprint(self) -> str:
        """Return the first twelve hex digits of the key's SHA-256: enough to tell keys apart."""
        return hashlib.sha256(self.key().encode()).hexdigest()[:12]

    async def body(self) -> bytes:
        """Read it all."""
        parts: list[bytes] = []
        while True:
            message = await self.receive()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

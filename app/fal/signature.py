"""fal's signature on its webhooks: Ed25519 over the raw body, by any key of fal's published set (FAL.md 3)."""

import asyncio
import base64
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.fal.messages import Reply
from app.fal.paths import FalUrl, is_request_id
from app.fal.wire import Scrubber, exchange, read_transport, trust

LEEWAY_SECONDS: Final = 300
KEYS_LIVE_SECONDS: Final = 24 * 3600.0
REFRESH_EVERY_SECONDS: Final = 60.0
"""The least between two fetches of a set that is at hand, whatever comes in meanwhile."""

_WAIT_SECONDS: Final = 5.0  # what a webhook waits for a fetch; fal itself gives up after 15
_FETCH_SECONDS: Final = 10.0
_SET_BYTES: Final = 200_000
_MOST_KEYS: Final = 50
_PATH: Final = "/.well-known/jwks.json"
_NOTHING_TO_HIDE: Final = Scrubber()  # no key of ours goes there

_SIGNED: Final = (b"x-fal-webhook-request-id", b"x-fal-webhook-user-id", b"x-fal-webhook-timestamp")
_SIGNATURE: Final = b"x-fal-webhook-signature"
_USER_ID: Final = re.compile(rb"[ -~]{1,255}")
_SECONDS: Final = re.compile(rb"[0-9]{1,12}")
_HEX: Final = re.compile(rb"[0-9a-f]{128}")
_X: Final = re.compile(r"[A-Za-z0-9_-]{43}=?")

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case, one that was sent twice is there twice."""


@dataclass(frozen=True, slots=True)
class Genuine:
    """fal signed it: about this request, for this account of fal's. Not yet: for ours."""

    fal_request_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Forged:
    """`headers`: not the four, each once and well-formed. `timestamp`: too old or too new. `signature`: no key's."""

    reason: str


@dataclass(frozen=True, slots=True)
class KeysAway:
    """Not known: there is no key set at hand, and fal gives none just now."""

    reason: str


def verify(headers: Headers, body: bytes, *, keys: Sequence[Ed25519PublicKey], now: datetime) -> Genuine | Forged:
    """Whether one of these keys signed this body, as it came, within five minutes of now. Never raises."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SIGNED or name == _SIGNATURE:
            if name in found:
                return Forged("headers")
            found[name] = value
    values = [found.get(name, b"") for name in _SIGNED]
    request_id, user_id, seconds = values
    if not (
        is_request_id(request_id.decode("latin-1"))
        and _USER_ID.fullmatch(user_id)
        and _SECONDS.fullmatch(seconds)
        and _HEX.fullmatch(found.get(_SIGNATURE, b""))
    ):
        return Forged("headers")
    if abs(now.timestamp() - int(seconds)) > LEEWAY_SECONDS:
        return Forged("timestamp")
    message = b"\n".join([*values, hashlib.sha256(body).hexdigest().encode("ascii")])
    signature = bytes.fromhex(found[_SIGNATURE].decode("ascii"))
    if any(_is_by(key, signature, message) for key in keys):
        return Genuine(request_id.decode("ascii"), user_id.decode("ascii"))
    return Forged("signature")


def _is_by(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def read_keys(reply: Reply) -> tuple[Ed25519PublicKey, ...]:
    """The Ed25519 keys of a JWKS (RFC 8037); what is no such key is passed over."""
    listed = reply.json.get("keys") if reply.code == httpx.codes.OK and reply.json is not None else None
    keys = [_key_of(entry) for entry in listed[:_MOST_KEYS]] if isinstance(listed, list) else []
    return tuple(key for key in keys if key is not None)


def _key_of(entry: object) -> Ed25519PublicKey | None:
    if not isinstance(entry, dict) or (entry.get("kty"), entry.get("crv")) != ("OKP", "Ed25519"):
        return None
    x = entry.get("x")
    if not isinstance(x, str) or not _X.fullmatch(x):
        return None
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x.rstrip("=") + "="))


class KeySet:
    """fal's public keys, safe to share between tasks; closed by `aclose`. No key of ours is sent to `rest_url`.

    They are fetched when first needed, kept at most 24 hours, and fetched anew for a signature that none of them
    made, at most once a minute: one fetch at a time, which nobody waits for longer than five seconds. While there
    are none and fal gives none, it is asked ever more seldom, at last once a minute. `monotonic` is that clock.
    """

    def __init__(
        self, *, rest_url: str, tls: ssl.SSLContext | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = FalUrl(rest_url)
        self._monotonic = monotonic
        self._timeout = httpx.Timeout(_FETCH_SECONDS, connect=_WAIT_SECONDS, pool=_WAIT_SECONDS).as_dict()
        self._transport = read_transport(trust() if tls is None else tls, 1)
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._keys_end_at = 0.0
        self._fetch_after = 0.0
        self._failures = 0
        self._trouble = "not fetched yet"
        self._fetching: asyncio.Task[None] | None = None

    async def judge(self, headers: Headers, body: bytes, *, now: datetime) -> Genuine | Forged | KeysAway:
        """Whether fal signed this body. Look before anything else is done with it."""
        headers = list(headers)
        before = self._live_keys
        verdict = verify(headers, body, keys=before, now=now)
        if verdict != Forged("signature"):
            return verdict
        await self._refresh()
        keys = self._live_keys
        if not keys:
            return KeysAway(self._trouble)
        return verdict if keys is before else verify(headers, body, keys=keys, now=now)

    async def aclose(self) -> None:
        """Close every connection. The set is not used afterwards."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        await self._transport.aclose()

    @property
    def _live_keys(self) -> tuple[Ed25519PublicKey, ...]:
        return self._keys if self._monotonic() < self._keys_end_at else ()

    async def _refresh(self) -> None:
        if self._fetching is None:
            if self._monotonic() < self._fetch_after:
                return
            self._fetching = asyncio.create_task(self._fetch())
        await asyncio.wait({self._fetching}, timeout=_WAIT_SECONDS)

    async def _fetch(self) -> None:
        try:
            keys = await self._read()
            began = self._monotonic()
            if keys:
                self._keys, self._keys_end_at, self._failures = keys, began + KEYS_LIVE_SECONDS, 0
            else:
                self._failures += 1
            rest = REFRESH_EVERY_SECONDS if self._live_keys else min(REFRESH_EVERY_SECONDS, 2.0**self._failures)
            self._fetch_after = began + rest
        finally:
            self._fetching = None

    async def _read(self) -> tuple[Ed25519PublicKey, ...]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "falgate"}
        request = httpx.Request("GET", self._url.at(_PATH), headers=headers, extensions={"timeout": self._timeout})
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                reply = await exchange(self._transport, request, most_bytes=_SET_BYTES, scrub=_NOTHING_TO_HIDE)
        except Exception as reason:  # noqa: BLE001  aiohttp's own exceptions pass its transport now and then
            self._trouble = _NOTHING_TO_HIDE.reason(reason)
            return ()
        keys = read_keys(reply)
        self._trouble = "" if keys else f"fal answered {reply.code}, without a key that can be used"
        return keys

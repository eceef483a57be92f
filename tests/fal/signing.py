"""fal's side of webhooks: keys, the set that publishes them, and signatures."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fal.wire import REQUEST_ID, Server, answer, serving

ACCOUNT = "github|4711"
Pairs = list[tuple[bytes, bytes]]


class Signer:
    """One key pair of fal's."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    @property
    def jwk(self) -> dict[str, str]:
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).decode().rstrip("=")}

    def sign(
        self,
        body: bytes,
        *,
        request_id: str = REQUEST_ID,
        user_id: str = ACCOUNT,
        at: datetime | None = None,
    ) -> Pairs:
        """The four headers, as ASGI hands them on."""
        seconds = str(int((at or datetime.now(UTC)).timestamp()))
        signed = [request_id, user_id, seconds, hashlib.sha256(body).hexdigest()]
        signature = self.key.sign("\n".join(signed).encode()).hex()
        names = ("request-id", "user-id", "timestamp", "signature")
        values = [*signed[:3], signature]
        return [(f"x-fal-webhook-{n}".encode(), v.encode()) for n, v in zip(names, values, strict=True)]


def told(request_id: str = REQUEST_ID, **members: Any) -> bytes:
    """A webhook's body: a success, unless the members say otherwise."""
    good = {"status": "OK", "payload": {"video": {"url": "https://fal.media/files/told.mp4"}}}
    return json.dumps({"request_id": request_id, "gateway_request_id": request_id, **good, **members}).encode()


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": [key.jwk if isinstance(key, Signer) else key for key in keys]}).encode()


@asynccontextmanager
async def publishing(*signers: Signer) -> AsyncIterator[Server]:
    """A FAL_REST_URL that publishes these keys."""
    async with serving(answer(200, jwks(*signers))) as server:
        yield server

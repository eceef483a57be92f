"""Our own signature on webhooks in fal's shape (FAL.md 3): Ed25519, by a key that follows from SECRET_KEY.

Nothing is stored, so all replicas sign alike; another SECRET_KEY is another key.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from app.ids import show
from app.sealing import derive_key

KEYS_LIVE_SECONDS: Final = 3600
"""How long receivers may keep our key set; whoever follows fal's own rule keeps it for a day."""

_KID_DIGITS: Final = 16


class FalSigner:
    """Signs webhooks in fal's shape and publishes what verifies them; it shows none of its key."""

    def __init__(self, secret_key: SecretStr) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(derive_key(secret_key, "fal webhooks"))

    def sign(self, body: bytes, *, job_id: UUID, user_id: UUID, now: datetime) -> dict[str, str]:
        """The four headers for this raw body: the request is our job, the user ours, the moment `now`."""
        named = (show("job", job_id), show("user", user_id), str(int(now.timestamp())))
        message = "\n".join((*named, hashlib.sha256(body).hexdigest())).encode()
        return {
            "X-Fal-Webhook-Request-Id": named[0],
            "X-Fal-Webhook-User-Id": named[1],
            "X-Fal-Webhook-Timestamp": named[2],
            "X-Fal-Webhook-Signature": self._key.sign(message).hex(),
        }

    def key_set(self) -> Mapping[str, list[dict[str, str]]]:
        """The public half as a JWK set (RFC 8037): `x` is base64url without padding, as fal publishes its own."""
        raw = self._key.public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        kid = hashlib.sha256(raw).hexdigest()[:_KID_DIGITS]
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x}]}

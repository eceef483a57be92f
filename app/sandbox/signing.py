"""The keys that sign webhooks, and the signature itself (FAL.md 3)."""

import base64
import hashlib
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MOST_KEYS = 8


class KeySet:
    """Key pairs made at start, the newest last; the newest signs, and one set signs for all accounts."""

    def __init__(self) -> None:
        self._keys = [Ed25519PrivateKey.generate()]

    def rotate(self, *, keep: bool) -> None:
        """Sign with a new key from now on; `keep` leaves the older ones in the published set."""
        kept = self._keys[1 - MOST_KEYS :] if keep else []
        self._keys = [*kept, Ed25519PrivateKey.generate()]

    def publish(self) -> dict[str, list[dict[str, str]]]:
        """Return the public halves as a JWK set; `x` has 43 characters, base64url without padding."""
        return {"keys": [_publish(key) for key in self._keys]}

    def sign(self, body: bytes, *, request_id: str, user_id: str, timestamp: int | None = None) -> dict[str, str]:
        """Return the four headers of a webhook whose raw body this is; without `timestamp`, of this second."""
        moment = str(int(time.time()) if timestamp is None else timestamp)
        message = "\n".join([request_id, user_id, moment, hashlib.sha256(body).hexdigest()]).encode()
        return {
            "x-fal-webhook-request-id": request_id,
            "x-fal-webhook-user-id": user_id,
            "x-fal-webhook-timestamp": moment,
            "x-fal-webhook-signature": self._keys[-1].sign(message).hex(),
        }


def _publish(key: Ed25519PrivateKey) -> dict[str, str]:
    raw = key.public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": raw.hex()[:16], "x": x}

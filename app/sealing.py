"""Sealing what must not be readable in the database: AES-256-GCM under a key derived from SECRET_KEY."""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


class SealBroken(Exception):  # noqa: N818  a fact
    """This was not sealed with this SECRET_KEY for this owner, or was changed since."""


def derive_key(secret_key: SecretStr, purpose: str, *, length: int = 32) -> bytes:
    """Bytes that follow from SECRET_KEY for this purpose alone: one purpose's key tells nothing of another's."""
    label = f"falgate {purpose}, version 1".encode()
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=label).derive(secret_key.get_secret_value().encode())


class Seal:
    """Seals under one SECRET_KEY, for one purpose; it shows none of it."""

    def __init__(self, secret_key: SecretStr, purpose: str = "webhook secrets") -> None:
        self._cipher = AESGCM(derive_key(secret_key, purpose))

    def close(self, text: bytes, *, owner: bytes) -> bytes:
        """Seal it, so that it opens for this owner only."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, text, owner)

    def open(self, sealed: bytes, *, owner: bytes) -> bytes:
        """What was sealed. Raises SealBroken."""
        version, nonce, rest = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if version != _VERSION:
            raise SealBroken
        try:
            return self._cipher.decrypt(nonce, rest, owner)
        except (InvalidTag, ValueError):
            raise SealBroken from None

"""What a key's secret looks like: `fg_`, 43 characters of chance, 6 of checksum; letters and digits only."""

import hashlib
import secrets
import zlib
from typing import Final

_ALPHABET: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MARK: Final = b"fg_"
_BODY_ENDS: Final = 46  # 3 + 43
_LENGTH: Final = 52
_PREFIX_LENGTH: Final = 11


def new_secret() -> str:
    """A secret that nobody has had before: 256 bits of chance (62⁴³)."""
    body = bytes(secrets.choice(_ALPHABET) for _ in range(_BODY_ENDS - len(_MARK)))
    return (_MARK + body + _checksum(body)).decode()


def hash_of(secret: str | bytes) -> bytes | None:
    """The SHA-256 under which a secret is stored; None when its form or its checksum is wrong.

    Every change of one character, and every swap of two neighbours, is noticed without asking the database.
    """
    text = secret.encode(errors="replace") if isinstance(secret, str) else secret
    if len(text) != _LENGTH or not text.startswith(_MARK):
        return None
    body = text[len(_MARK) : _BODY_ENDS]
    if not body.isalnum() or _checksum(body) != text[_BODY_ENDS:]:
        return None
    return hashlib.sha256(text).digest()


def shown_prefix(secret: str) -> str:
    """As much of a secret as lists may show, so that people tell their keys apart."""
    return secret[:_PREFIX_LENGTH]


def _checksum(body: bytes) -> bytes:
    """CRC-32 in base 62, six digits."""
    rest = zlib.crc32(body)
    digits = bytearray(6)
    for place in range(5, -1, -1):
        rest, digit = divmod(rest, 62)
        digits[place] = _ALPHABET[digit]
    return bytes(digits)

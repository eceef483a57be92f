"""Tokens: what a key hands to a browser, for a while and for less than the key itself opens.

A token is sealed, not only signed: nobody reads in it which key made it. It dies with the secret that made it, since
that secret's hash is looked up at each use as if the key itself had been sent.
"""

import base64
import binascii
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import SecretStr

from app.problems import Problem
from app.sealing import derive_key

Scope = Literal["submit", "read", "content"]

MARK: Final = "ft_"
_SCOPES: Final[tuple[Scope, ...]] = ("submit", "read", "content")
_FIXED: Final = struct.Struct(">32sQB16s")  # hash of the secret, expiry in Unix microseconds, scope, job
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_JOB: Final = UUID(int=0)
_LONGEST: Final = 1_000


class TokenUnknown(Problem):
    """The request carries a token that does not open this.

    Tokens (`ft_…`) are made by `POST /v1/tokens`, for a while, and some for one job alone; they open routes of jobs
    and files and no others. One that has expired, was changed, or belongs to another job gets this same answer: make a
    new one. (One whose key is no longer in use is told `key-unknown`.)
    """

    status = 401

    def __init__(
        self, detail: str = "Make a new token with POST /v1/tokens: this one has expired or does not open this."
    ) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class TokenForbidden(Problem):
    """Your token is good, but it was made for reading alone.

    `POST /v1/tokens` with the scope `submit` makes one that submits and cancels too.
    """

    status = 403

    def __init__(self) -> None:
        super().__init__("Use a token of the scope `submit`: this one only reads.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token opens until `expires_at`.

    `submit` makes jobs and reads and cancels them; `read` only reads. With an `end_user`, only jobs of that end user,
    who then stands on every job that is made; with a `job_id`, that job alone. Never more than the key's user's own.

    `content` is what stands in a Job's `content_url`: the video of one job and nothing else of it. It goes with whoever
    may read that job, so it need not be the user's own; what the key's user may see is still asked at each use.
    """

    scope: Scope
    expires_at: datetime
    end_user: str | None = None
    job_id: UUID | None = None

    def shows(self, job_id: UUID, *, is_own: bool, end_user: str | None) -> bool:
        """Whether it opens this job."""
        if self.scope == "content":
            return self.job_id == job_id
        return (
            is_own
            and (self.job_id is None or self.job_id == job_id)
            and (self.end_user is None or self.end_user == end_user)
        )


class Tokens:
    """Makes and reads tokens under one SECRET_KEY; it shows none of it.

    AES-SIV (RFC 5297), whose tag covers every bit and which has no nonce that could come twice, however many are made.
    """

    def __init__(self, secret_key: SecretStr) -> None:
        self._cipher = AESSIV(derive_key(secret_key, "tokens", length=64))

    def mint(self, secret_hash: bytes, grant: Grant) -> str:
        """A token by which whoever holds it acts as the key of this secret, as far as the grant goes."""
        fixed = _FIXED.pack(
            secret_hash,
            (grant.expires_at - _EPOCH) // _MICROSECOND,
            _SCOPES.index(grant.scope),
            (grant.job_id or _NO_JOB).bytes,
        )
        return MARK + _encode(self._cipher.encrypt(fixed + (grant.end_user or "").encode(), None))

    def read(self, token: str, *, now: datetime) -> tuple[bytes, Grant]:
        """The hash of the secret that made it, and its grant. Raises TokenUnknown."""
        try:
            text = self._cipher.decrypt(_decode(token), None)
        except (InvalidTag, ValueError):
            raise TokenUnknown from None
        secret_hash, expires_at, scope, job = _FIXED.unpack(text[: _FIXED.size])
        grant = Grant(
            scope=_SCOPES[scope],
            expires_at=_EPOCH + expires_at * _MICROSECOND,
            end_user=text[_FIXED.size :].decode() or None,
            job_id=UUID(bytes=job) if any(job) else None,
        )
        if grant.expires_at <= now:
            raise TokenUnknown
        return secret_hash, grant


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _decode(token: str) -> bytes:
    """Raises ValueError for what `mint` has not written: base64 alone would take several spellings of one token."""
    text = token.removeprefix(MARK)
    if len(token) > _LONGEST or not token.startswith(MARK) or not text.isascii():
        raise ValueError("no token")
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("no token") from None
    if _encode(sealed) != text:
        raise ValueError("no token")
    return sealed

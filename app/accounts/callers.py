"""Who is calling: from the raw headers of a request to a live key, its user and its team."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounts.key_secrets import hash_of
from app.db import MOMENT
from app.ids import show
from app.problems import Problem
from app.settings import Settings
from app.tokens import MARK, Grant, TokenForbidden, Tokens, TokenUnknown

Role = Literal["member", "lead", "finance", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

Headers = Iterable[tuple[bytes, bytes]]
"""A request's headers as ASGI has them: `scope["headers"]`, names in lower case."""

CALLER_FROM: Final = (
    "key_secrets s JOIN keys k ON k.id = s.key_id JOIN users u ON u.id = k.user_id JOIN teams t ON t.id = u.team_id"
)
"""What follows FROM in any statement that asks who is calling, by `s.hash`. Goes with `sql_live`."""


def sql_live(now: str) -> str:
    """The condition, over CALLER_FROM, that a key may be used; `now` is a placeholder: `$2`, `:now`."""
    now = _moment(now)
    return (
        "k.revoked_at IS NULL AND u.disabled_at IS NULL AND t.archived_at IS NULL"
        f" AND (s.expires_at IS NULL OR s.expires_at > {now})"
        f" AND (k.expires_at IS NULL OR k.expires_at > {now})"
    )


def sql_stale(now: str) -> str:
    """The condition, over `keys k`, that its `last_used_at` is over a minute old or was never written."""
    return f"(k.last_used_at IS NULL OR k.last_used_at < {_moment(now)} - interval '1 minute')"


def sql_caller(now: str) -> str:
    """The columns of who is calling, over CALLER_FROM: `key_id, user_id, team_id, role, is_stale`."""
    return f"k.id AS key_id, u.id AS user_id, t.id AS team_id, u.role AS role, {sql_stale(now)} AS is_stale"


def _moment(placeholder: str) -> str:
    """A placeholder whose type Postgres need not guess."""
    return f"CAST({placeholder} AS timestamptz)"


_FIND_CALLER: Final = text(
    f"SELECT {sql_caller(':now')}, k.name AS key_name, u.name AS user_name, t.name AS team_name"  # noqa: S608  ours
    f" FROM {CALLER_FROM} WHERE s.hash = :hash AND {sql_live(':now')}"
).bindparams(bindparam("now", type_=MOMENT))


class KeyUnknown(Problem):
    """The request carries no key that is in use here.

    Send `Authorization: Bearer fg_…` (or `Key fg_…`), once. A key that was never made, is mistyped, was revoked,
    has expired, or belongs to somebody who was disabled gets this same answer. Your team's lead, or whoever runs
    the gateway, makes a new one. (`/metrics` may ask for a key of its own, METRICS_KEY.)
    """

    status = 401

    def __init__(self, detail: str = "Send one header `Authorization: Bearer fg_…` with a key that is in use.") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class RoleForbidden(Problem):
    """Your key is known, but its user's role may not do this.

    `roles` names the roles that may. Ask someone who has one of them, or an admin to change yours.
    """

    status = 403

    def __init__(self, roles: Iterable[Role], detail: str | None = None) -> None:
        allowed = list(roles)
        super().__init__(detail or f"Only these roles may do this: {', '.join(allowed)}.", roles=allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A live key, its user and its team, as they were when the request came."""

    key_id: UUID
    user_id: UUID
    team_id: UUID
    role: Role
    is_stale: bool
    key_name: str
    user_name: str
    team_name: str


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request carries: the hash of a key's secret, and the grant when it was a token of that key's."""

    secret_hash: bytes
    grant: Grant | None = None

    def require_submit(self) -> None:
        """Raises TokenForbidden for a token that only reads."""
        if self.grant is not None and self.grant.scope != "submit":
            raise TokenForbidden


def read_credential(
    headers: Headers,
    *,
    settings: Settings,
    tokens: Tokens | None,
    now: datetime,
    job_id: UUID | None = None,
    in_query: str | None = None,
    for_content: bool = False,
) -> Credential:
    """The credential of a route that takes tokens too; asks no database.

    `job_id` is the job that the route is about, if it is about one: a token for one job opens no other route.
    `in_query` is `?token=`, where a route takes it: only a token of this job counts there. A token that is made for a
    video (scope `content`) opens no route but the one `for_content`.

    Raises KeyUnknown, RoleForbidden for ADMIN_KEY, and TokenUnknown.
    """
    if in_query is not None:
        if tokens is None or job_id is None:
            raise TokenUnknown
        secret_hash, grant = tokens.read(in_query, now=now)
        if grant.job_id != job_id or (grant.scope == "content" and not for_content):
            raise TokenUnknown
        return Credential(secret_hash, grant)
    scheme, secret = authorization(headers)
    if _is_token(scheme, secret):
        if tokens is None:
            raise TokenUnknown
        secret_hash, grant = tokens.read(secret.decode("latin-1"), now=now)
        if grant.job_id not in {None, job_id} or (grant.scope == "content" and not for_content):
            raise TokenUnknown
        return Credential(secret_hash, grant)
    return Credential(credentials(headers, admin_key=settings.admin_key))


async def find_caller(tx: AsyncConnection, secret_hash: bytes, *, now: datetime) -> Caller | None:
    """Who holds this secret; None unless key, secret, user and team are all live at `now`. Never cached."""
    result = await tx.execute(_FIND_CALLER, {"hash": secret_hash, "now": now})
    row = result.mappings().one_or_none()
    return Caller(**row) if row else None


def credentials(headers: Headers, *, admin_key: SecretStr | None) -> bytes:
    """The hash of the secret that a user's request carries; asks no database.

    Raises KeyUnknown unless there is exactly one Authorization header, `Bearer` or `Key`, of our form.
    Raises RoleForbidden for ADMIN_KEY, which stands for no user, and TokenUnknown for a token.
    """
    scheme, secret = authorization(headers)
    if scheme in {b"bearer", b"key"} and (known := hash_of(secret)) is not None:
        return known
    if _is_token(scheme, secret):
        raise TokenUnknown("Send a key (`fg_…`) instead: no token opens this.")
    if _is_admin_key(scheme, secret, admin_key):
        raise RoleForbidden(
            ROLES, "ADMIN_KEY stands for no user: it opens admin routes only. Make a key and use that here."
        )
    raise KeyUnknown


def is_admin_key(headers: Headers, admin_key: SecretStr | None) -> bool:
    """Whether the request carries ADMIN_KEY, as Bearer; it takes as long however much of it is right."""
    return _is_admin_key(*authorization(headers), admin_key)


def _is_token(scheme: bytes, secret: bytes) -> bool:
    return scheme in {b"bearer", b"key"} and secret.startswith(MARK.encode())


def _is_admin_key(scheme: bytes, secret: bytes, admin_key: SecretStr | None) -> bool:
    if admin_key is None or scheme != b"bearer":
        return False
    return hmac.compare_digest(secret, admin_key.get_secret_value().encode())


def authorization(headers: Headers) -> tuple[bytes, bytes]:
    """Scheme in lower case and credential; both empty unless there is exactly one such header."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if found is not None:
                return b"", b""
            found = value
    scheme, _, secret = (found or b"").partition(b" ")
    return scheme.lower(), secret.strip(b" ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who changes something, as the audit log names them; ADMIN_KEY and the command line have no caller."""

    name: str
    role: Role
    caller: Caller | None = None


ADMIN_KEY: Final = Actor(name="ADMIN_KEY", role="admin")
COMMAND_LINE: Final = Actor(name="command line", role="admin")


def acting(caller: Caller) -> Actor:
    """A caller as an actor: `user_…/key_…`."""
    name = f"{show('user', caller.user_id)}/{show('key', caller.key_id)}"
    return Actor(name=name, role=caller.role, caller=caller)

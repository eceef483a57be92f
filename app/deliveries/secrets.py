"""The secret that signs a user's webhooks: one current, and those before it for a day more."""

import base64
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr

from app.accounts import audit_log
from app.accounts.callers import Caller, acting
from app.db import Plain, Tx, plain_of
from app.deliveries.shapes import WebhookSecret
from app.ids import new_id, show
from app.problems import Problem
from app.sealing import Seal, SealBroken
from app.settings import Settings

GRACE: Final = timedelta(hours=24)
"""How long a secret signs along after it was replaced."""
MOST_SIGNING: Final = 10

_BYTES: Final = 32

SQL_LIVE: Final = f"""
SELECT s.sealed FROM webhook_secrets s WHERE s.user_id = {{user}} AND (s.expires_at IS NULL OR s.expires_at > {{now}})
ORDER BY s.expires_at DESC NULLS FIRST LIMIT {MOST_SIGNING}"""  # noqa: S608  ours
"""The secrets that sign for a user, the current one first."""
_CURRENT: Final = """
SELECT s.sealed, s.created_at, (SELECT max(o.expires_at) FROM webhook_secrets o
                                WHERE o.user_id = s.user_id AND o.expires_at > $2) AS previous_expires_at
FROM webhook_secrets s WHERE s.user_id = $1 AND s.expires_at IS NULL
"""
_MAKE: Final = """
INSERT INTO webhook_secrets (id, user_id, sealed, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id) WHERE expires_at IS NULL DO NOTHING
"""
_FORGET: Final = f"""
DELETE FROM webhook_secrets WHERE user_id = $1 AND id NOT IN (
    SELECT id FROM webhook_secrets WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > $2)
    ORDER BY expires_at DESC NULLS FIRST LIMIT {MOST_SIGNING - 1}
)
"""  # noqa: S608  ours
_REPLACE: Final = "UPDATE webhook_secrets SET expires_at = $2 WHERE user_id = $1 AND expires_at IS NULL"
_ONE_AT_A_TIME: Final = "SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE"


class WebhooksOff(Problem):
    """This gateway has no SECRET_KEY, with which the secrets of webhooks are sealed: it sends no webhooks.

    Whoever runs it sets SECRET_KEY, at least 32 characters, such as `openssl rand -hex 32` prints, and starts it again.
    """

    status = 409

    def __init__(self) -> None:
        super().__init__("Whoever runs this gateway must set SECRET_KEY before there can be webhooks.")


class WebhookSecretUnreadable(Problem):
    """Your webhook secret was sealed with another SECRET_KEY than the gateway has now, and cannot be opened any more.

    `POST /v1/me/webhook-secret/rotate` makes a new one; give that to your receiver. Deliveries wait until then and are
    signed with the new one.
    """

    status = 409

    def __init__(self) -> None:
        super().__init__("Rotate it: POST /v1/me/webhook-secret/rotate makes a new one, to be given to your receiver.")


def seal_of(settings: Settings) -> Seal:
    """What seals secrets here. Raises WebhooksOff."""
    if settings.secret_key is None:
        raise WebhooksOff
    return Seal(settings.secret_key)


async def read_secret(tx: Tx, seal: Seal, user_id: UUID, *, now: datetime) -> WebhookSecret:
    """The user's current secret, made if there is none yet. Raises WebhookSecretUnreadable."""
    plain = await plain_of(tx)
    row = await plain.fetchrow(_CURRENT, user_id, now)
    if row is None:
        await make_secret(plain, seal, user_id, now=now)
        row = await plain.fetchrow(_CURRENT, user_id, now)
    if row is None:
        raise AssertionError("a secret was made and is not there")
    return _shown(row, seal, user_id)


async def make_secret(plain: Plain, seal: Seal, user_id: UUID, *, now: datetime) -> None:
    """Make a secret, unless somebody has made one meanwhile: there is one current secret, by a unique index."""
    await plain.execute(_MAKE, new_id(now), user_id, seal.close(os.urandom(_BYTES), owner=user_id.bytes), now)


async def rotate_secret(tx: Tx, seal: Seal, caller: Caller, *, now: datetime) -> WebhookSecret:
    """Make a new secret; the one before it signs along for a day, unless nobody can open it any more."""
    plain = await plain_of(tx)
    user_id = caller.user_id
    await plain.execute(_ONE_AT_A_TIME, user_id)
    await plain.execute(_FORGET, user_id, now)
    before = await plain.fetchrow(_CURRENT, user_id, now)
    can_sign = before is not None and _is_readable(before["sealed"], seal, user_id)
    await plain.execute(_REPLACE, user_id, now + GRACE if can_sign else now)
    await make_secret(plain, seal, user_id, now=now)
    secret = await read_secret(tx, seal, user_id, now=now)
    await audit_log.write(
        tx,
        actor=acting(caller),
        action="webhook_secret.rotated",
        object_id=show("user", user_id),
        before=None if before is None else {"created_at": before["created_at"]},
        after={"created_at": secret.created_at, "previous_expires_at": secret.previous_expires_at},
        now=now,
    )
    return secret


def open_secrets(sealed: Sequence[bytes], seal: Seal, user_id: UUID) -> list[SecretStr]:
    """The secrets that sign, of `SQL_LIVE`. Raises SealBroken for the current one; older ones are then left out."""
    current, *older = sealed
    return [_spelt(current, seal, user_id)] + [
        _spelt(one, seal, user_id) for one in older if _is_readable(one, seal, user_id)
    ]


def _shown(row: Any, seal: Seal, user_id: UUID) -> WebhookSecret:
    try:
        secret = _spelt(row["sealed"], seal, user_id)
    except SealBroken:
        raise WebhookSecretUnreadable from None
    return WebhookSecret(
        secret=secret.get_secret_value(),
        created_at=row["created_at"],
        previous_expires_at=row["previous_expires_at"],
    )


def _is_readable(sealed: bytes, seal: Seal, user_id: UUID) -> bool:
    try:
        seal.open(sealed, owner=user_id.bytes)
    except SealBroken:
        return False
    return True


def _spelt(sealed: bytes, seal: Seal, user_id: UUID) -> SecretStr:
    return SecretStr("whsec_" + base64.b64encode(seal.open(sealed, owner=user_id.bytes)).decode())

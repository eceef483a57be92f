"""Keys: made, listed, renamed, rotated, revoked. A secret leaves this room once, when it is made."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.accounts.changes import given, save
from app.accounts.key_secrets import hash_of, new_secret, shown_prefix
from app.accounts.listing import newest
from app.accounts.reach import not_found, require_reach, visible_keys, visible_users
from app.accounts.shapes import Key, KeyBody, KeyPatch, KeyQuery, KeyRotation, MadeKey
from app.accounts.tables import key_secrets, keys, teams, users
from app.db import Tx
from app.http import Page
from app.ids import new_id, show
from app.problems import InvalidInput, Problem


class KeyEnded(Problem):
    """This key was revoked or has expired, and a key that has ended is never brought back.

    Make a new key instead.
    """

    status = 409


async def create_key(tx: Tx, body: KeyBody, *, actor: Actor, now: datetime) -> MadeKey:
    """Make a key of a user, with its secret.

    Raises InvalidInput for a user who is unknown, not the actor's to see, or disabled (or its team archived),
    and for an `expires_at` that has passed; RoleForbidden when a lead asks for a key of a user above it.
    """
    await _require_user(tx, body, actor=actor, now=now)
    secret = new_secret()
    key = Key(
        id=new_id(now),
        prefix=shown_prefix(secret),
        user_id=body.user_id,
        name=body.name,
        expires_at=body.expires_at,
        revoked_at=None,
        last_used_at=None,
        created_at=now,
    )
    await tx.execute(insert(keys).values(dict(key)))
    await _add_secret(tx, key.id, secret, now=now)
    await _log(tx, key.id, "created", actor=actor, before=None, after=key.model_dump(mode="json"), now=now)
    return MadeKey(secret=secret, **dict(key))


async def change_key(tx: Tx, key_id: UUID, patch: KeyPatch, *, actor: Actor, now: datetime) -> Key:
    """Rename a key. Raises NotFound and RoleForbidden."""
    was = await _lock_key(tx, key_id, actor=actor)
    key = was.model_copy(update=given(patch))
    await save(tx, keys, "key", was=was, becomes=key, actor=actor, now=now)
    return key


async def rotate_key(tx: Tx, key_id: UUID, rotation: KeyRotation, *, actor: Actor, now: datetime) -> MadeKey:
    """Give a key a new secret; it keeps its id. Raises NotFound, RoleForbidden and KeyEnded.

    Each older secret works for `grace_seconds` more, but never longer than it would have.
    """
    was = await _lock_key(tx, key_id, actor=actor)
    if was.revoked_at is not None or (was.expires_at is not None and was.expires_at <= now):
        raise KeyEnded("This key has ended; make a new one.")
    secret = new_secret()
    key = was.model_copy(update={"prefix": shown_prefix(secret)})
    await _retire_secrets(tx, key_id, at=now + timedelta(seconds=rotation.grace_seconds), now=now)
    await _add_secret(tx, key_id, secret, now=now)
    await tx.execute(update(keys).where(keys.c.id == key_id).values(prefix=key.prefix))
    after = {"prefix": key.prefix, "grace_seconds": rotation.grace_seconds}
    await _log(tx, key_id, "rotated", actor=actor, before={"prefix": was.prefix}, after=after, now=now)
    return MadeKey(secret=secret, **dict(key))


async def revoke_key(tx: Tx, key_id: UUID, *, actor: Actor, now: datetime) -> None:
    """End a key at once and for ever; a second time changes nothing. Raises NotFound and RoleForbidden."""
    was = await _lock_key(tx, key_id, actor=actor)
    if was.revoked_at is not None:
        return
    await tx.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=now))
    await _log(tx, key_id, "revoked", actor=actor, before={"revoked_at": None}, after={"revoked_at": now}, now=now)


async def list_keys(tx: Tx, query: KeyQuery, *, actor: Actor) -> Page[Key]:
    """A page of the keys that the actor may see, newest first."""
    statement = select(keys).join(users, users.c.id == keys.c.user_id).where(visible_keys(actor))
    if query.user_id is not None:
        statement = statement.where(keys.c.user_id == query.user_id)
    if query.team_id is not None:
        statement = statement.where(users.c.team_id == query.team_id)
    rows, next_cursor = await newest(tx, statement, keys.c.id, query, prefix="key")
    return Page(data=[Key(**row) for row in rows], next_cursor=next_cursor)


async def _require_user(tx: Tx, body: KeyBody, *, actor: Actor, now: datetime) -> None:
    """The user's row stays locked, so that its role is still this one when the key is there."""
    of_user = (
        select(users.c.role, func.coalesce(users.c.disabled_at, teams.c.archived_at).label("off_at"))
        .join(teams, teams.c.id == users.c.team_id)
        .where(users.c.id == body.user_id, visible_users(actor))
        .with_for_update(read=True, of=users)
    )
    user = (await tx.execute(of_user)).one_or_none()
    faults: list[dict[str, str]] = []
    if user is None:
        faults.append({"pointer": "/user_id", "detail": "there is no such user"})
    elif user.off_at is not None:
        faults.append({"pointer": "/user_id", "detail": "this user is disabled, or its team archived"})
    if body.expires_at is not None and body.expires_at <= now:
        faults.append({"pointer": "/expires_at", "detail": "this moment has passed; give one in the future"})
    if user is not None:
        require_reach(actor, user.role)
    if faults:
        raise InvalidInput(faults)


async def _lock_key(tx: Tx, key_id: UUID, *, actor: Actor) -> Key:
    """A key that the actor may change, locked with its user until the transaction ends."""
    of_key = (
        select(keys, users.c.role)
        .join(users, users.c.id == keys.c.user_id)
        .where(keys.c.id == key_id, visible_keys(actor))
        .with_for_update()
    )
    row = (await tx.execute(of_key)).mappings().one_or_none() or not_found()
    require_reach(actor, row["role"])
    return Key(**row)


async def _add_secret(tx: Tx, key_id: UUID, secret: str, *, now: datetime) -> None:
    await tx.execute(insert(key_secrets).values(hash=hash_of(secret), key_id=key_id, created_at=now))


async def _retire_secrets(tx: Tx, key_id: UUID, *, at: datetime, now: datetime) -> None:
    """Let every secret of a key end at `at`, or when it would have; forget those that have ended."""
    of_key = key_secrets.c.key_id == key_id
    ends_at = func.least(key_secrets.c.expires_at, at)  # LEAST passes over a null
    await tx.execute(update(key_secrets).where(of_key).values(expires_at=ends_at))
    await tx.execute(delete(key_secrets).where(of_key, key_secrets.c.expires_at <= now))


async def _log(
    tx: Tx,
    key_id: UUID,
    what: str,
    *,
    actor: Actor,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    now: datetime,
) -> None:
    object_id = show("key", key_id)
    await audit_log.write(
        tx, actor=actor, action=f"key.{what}", object_id=object_id, before=before, after=after, now=now
    )

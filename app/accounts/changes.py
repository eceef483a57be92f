"""How a row is changed: what differs is written and logged, the rest leaves no trace; names stay unique."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy import Table, update
from sqlalchemy.exc import IntegrityError

from app.accounts import audit_log
from app.accounts.alerting import masked
from app.accounts.callers import Actor
from app.accounts.shapes import Key, Team, User
from app.db import Tx
from app.ids import show
from app.problems import NameTaken

Object = Team | User | Key

_UNIQUE: Final = {
    "teams_name_key": ("team", "name"),
    "teams_external_id_key": ("team", "external_id"),
    "users_email_key": ("user", "email"),
    "users_external_id_key": ("user", "external_id"),
}


def given(patch: BaseModel) -> dict[str, Any]:
    """The fields that the caller wrote into a PATCH."""
    return {name: getattr(patch, name) for name in patch.model_fields_set}


def moment_of(flag: bool | None, since: datetime | None, now: datetime) -> datetime | None:  # noqa: FBT001
    """`archived_at` for `archived`: set once, cleared, or (None) left as it is."""
    if flag is None:
        return since
    return (since or now) if flag else None


async def save(tx: Tx, table: Table, kind: str, *, was: Object, becomes: Object, actor: Actor, now: datetime) -> None:
    """Write the fields in which `becomes` differs from `was`, and log them; nothing if none does."""
    before, after = was.model_dump(), becomes.model_dump()
    changed = {name for name in before if before[name] != after[name]}
    if not changed:
        return
    values = {name: getattr(becomes, name) for name in changed}
    with unique():
        await tx.execute(update(table).where(table.c.id == was.id).values(**values))
    await audit_log.write(
        tx,
        actor=actor,
        action=f"{kind}.changed",
        object_id=show(kind, was.id),
        before=_without_secrets(was).model_dump(mode="json", include=changed),
        after=_without_secrets(becomes).model_dump(mode="json", include=changed),
        now=now,
    )


def _without_secrets(shown: Object) -> Object:
    return masked(shown) if isinstance(shown, Team) else shown


@contextmanager
def unique() -> Iterator[None]:
    """Turn a broken UNIQUE constraint into NameTaken, which says of which field."""
    try:
        yield
    except IntegrityError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        constraint = getattr(cause, "constraint_name", None)
        if constraint not in _UNIQUE:
            raise
        kind, field = _UNIQUE[constraint]
        words = field.replace("_", " ")
        raise NameTaken(f"Another {kind} has this {words}; choose another.", field=field) from None

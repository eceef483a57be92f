"""The audit log: who changed what, when, from what, to what. Append-only: Postgres refuses anything else."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic_core import to_jsonable_python
from sqlalchemy import insert, select

from app.accounts.callers import Actor
from app.accounts.listing import newest
from app.accounts.shapes import AuditEntry, AuditQuery
from app.accounts.tables import audit_log
from app.db import Tx, leave_witness
from app.http import Page
from app.ids import first_id, new_id

_PROBE: Final = """
INSERT INTO audit_log (id, at, actor, action, object_id) VALUES ($1, now(), '', '', '')
ON CONFLICT DO NOTHING RETURNING id
"""


async def write(
    tx: Tx,
    *,
    actor: Actor,
    action: str,
    object_id: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    """Add one entry, in the transaction of the change itself, of which it is the witness.

    `action` is a thing and a participle (`team.created`, `quota.changed`), `object_id` the id as it is shown.
    `before` is null for what is new. Neither may hold a secret or a hash; Decimals are written as strings.
    """
    entry_id = new_id(now)
    leave_witness(tx, _PROBE, entry_id)
    await tx.execute(
        insert(audit_log).values(
            id=entry_id,
            at=now,
            actor=actor.name,
            action=action,
            object_id=object_id,
            before=to_jsonable_python(before),
            after=to_jsonable_python(after),
        )
    )


async def list_entries(tx: Tx, query: AuditQuery) -> Page[AuditEntry]:
    """A page of the log, newest first."""
    statement = select(audit_log)
    if query.object_id is not None:
        statement = statement.where(audit_log.c.object_id == query.object_id)
    if query.action is not None:
        statement = statement.where(audit_log.c.action == query.action)
    if query.since is not None:
        statement = statement.where(audit_log.c.id >= first_id(query.since))
    if query.until is not None:
        statement = statement.where(audit_log.c.id < first_id(query.until))
    rows, next_cursor = await newest(tx, statement, audit_log.c.id, query, prefix="audit")
    return Page(data=[AuditEntry(**row) for row in rows], next_cursor=next_cursor)

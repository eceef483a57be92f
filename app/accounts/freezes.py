"""Freezes: made, lifted, listed. What they stop is told in `frozen`."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, cast, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert

from app.accounts import audit_log
from app.accounts.callers import Actor, RoleForbidden
from app.accounts.listing import newest
from app.accounts.reach import not_found
from app.accounts.shapes import Freeze, FreezeBody, FreezeQuery, FreezeScope
from app.accounts.tables import freezes, keys, teams, users
from app.db import Tx
from app.http import Page
from app.ids import new_id, parse, show
from app.problems import InvalidInput, Problem

_TABLES: Final = {"team": teams, "user": users, "key": keys}
_OF_LEADS: Final = frozenset({"user", "key"})


class AlreadyFrozen(Problem):
    """This team, user or key, or everybody, is frozen already.

    `freeze_id` names the freeze that is in force. To give another reason lift it (`DELETE /v1/freezes/{id}`) and freeze
    again.
    """

    status = 409


async def create_freeze(tx: Tx, body: FreezeBody, *, actor: Actor, now: datetime) -> Freeze:
    """Freeze somebody, from the commit on, at every replica.

    A lead freezes users and keys of its team, an admin whomever. Raises RoleForbidden, InvalidInput for a scope_id of
    nobody or not the lead's, and AlreadyFrozen.
    """
    if actor.role != "admin" and body.scope not in _OF_LEADS:
        raise RoleForbidden(["admin"], "A lead freezes users and keys of its team; only an admin freezes the others.")
    values = {
        "id": new_id(now),
        "scope": body.scope,
        "scope_id": await _stored_scope_id(tx, body, actor),
        "note": body.note,
        "by": actor.name,
        "by_role": actor.role,
        "created_at": now,
        "lifted_at": None,
        "lifted_by": None,
    }
    made = await tx.scalar(insert(freezes).values(values).on_conflict_do_nothing().returning(freezes.c.id))
    if made is None:
        theirs = select(freezes.c.id).where(freezes.c.scope == body.scope, freezes.c.scope_id == values["scope_id"])
        found: UUID | None = await tx.scalar(theirs.where(freezes.c.lifted_at.is_(None)))
        raise AlreadyFrozen(
            "It is frozen already: lift that freeze first to give another reason.",
            freeze_id=show("freeze", found) if found is not None else None,  # lifted in this very moment
        )
    freeze = _shown(values)
    await _log(tx, "freeze.created", freeze, actor=actor, now=now)
    return freeze


async def lift_freeze(tx: Tx, freeze_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Lift it; one that was lifted before stays as it is.

    A lead lifts what leads have frozen of its team, an admin all. Raises NotFound and RoleForbidden.
    """
    found = await tx.execute(select(freezes).where(freezes.c.id == freeze_id, _visible(actor)).with_for_update())
    row = found.mappings().one_or_none() or not_found()
    if actor.role != "admin" and row["by_role"] != "lead":
        raise RoleForbidden(["admin"], "An admin has frozen this: only an admin lifts it.")
    if actor.role != "admin" and row["scope"] not in _OF_LEADS:
        raise RoleForbidden(["admin"])
    if row["lifted_at"] is not None:
        return
    lifted = {"lifted_at": now, "lifted_by": actor.name}
    await tx.execute(update(freezes).where(freezes.c.id == freeze_id).values(lifted))
    await _log(tx, "freeze.lifted", _shown({**row, **lifted}), actor=actor, now=now)


async def list_freezes(tx: Tx, query: FreezeQuery, *, actor: Actor) -> Page[Freeze]:
    """Freezes, newest first: those that cover oneself; a lead's team's too; all for finance and admins."""
    statement = select(freezes).where(_visible(actor))
    if query.scope is not None:
        statement = statement.where(freezes.c.scope == query.scope)
    if query.lifted is not None:
        statement = statement.where(freezes.c.lifted_at.is_(None) != query.lifted)
    rows, next_cursor = await newest(tx, statement, freezes.c.id, query, prefix="freeze")
    return Page(data=[_shown(row) for row in rows], next_cursor=next_cursor)


def _shown(row: Any) -> Freeze:
    values = {name: row[name] for name in Freeze.model_fields}
    scope: FreezeScope = row["scope"]
    values["scope_id"] = None if scope == "organization" else show(scope, UUID(hex=row["scope_id"]))
    return Freeze(**values)


async def _stored_scope_id(tx: Tx, body: FreezeBody, actor: Actor) -> str:
    """Raises InvalidInput for what is not there, and in the same words for what is not the lead's."""
    if body.scope == "organization":
        if body.scope_id is not None:
            raise InvalidInput([{"pointer": "/scope_id", "detail": "must be left out: there is one organization"}])
        return ""
    made = parse(body.scope, body.scope_id or "")
    table = _TABLES[body.scope]
    there = select(table.c.id).where(table.c.id == made)
    if actor.role != "admin":
        there = there.where(table.c.id.in_(_of_team(body.scope, actor)))
    if made is None or await tx.scalar(there) is None:
        raise InvalidInput([{"pointer": "/scope_id", "detail": f"there is no {body.scope} of this id"}])
    return made.hex


def _of_team(scope: str, actor: Actor) -> Select[Any]:
    """The users, or the keys, of the actor's team; of a member its own."""
    if actor.caller is None:
        raise AssertionError("ADMIN_KEY has no team")
    own = users.c.team_id == actor.caller.team_id if actor.role == "lead" else users.c.id == actor.caller.user_id
    return select(users.c.id).where(own) if scope == "user" else select(keys.c.id).join(users).where(own)


def _visible(actor: Actor) -> ColumnElement[bool]:
    if actor.caller is None or actor.role in {"admin", "finance"}:
        return true()
    arms = [
        and_(freezes.c.scope == scope, freezes.c.scope_id.in_(_hexes(_of_team(scope, actor)))) for scope in _OF_LEADS
    ]
    of_team = and_(freezes.c.scope == "team", freezes.c.scope_id == actor.caller.team_id.hex)
    return or_(freezes.c.scope == "organization", of_team, *arms)


def _hexes(ids: Select[Any]) -> Select[Any]:
    found = ids.subquery()
    return select(func.replace(cast(found.c.id, Text), "-", ""))


async def _log(tx: Tx, action: str, freeze: Freeze, *, actor: Actor, now: datetime) -> None:
    """Under the id of whom it is about, so that their history tells it; the freeze's own stands in it."""
    told = freeze.model_dump(mode="json")
    lifted = freeze.lifted_at is not None
    await audit_log.write(
        tx,
        actor=actor,
        action=action,
        object_id=told["scope_id"] or "organization",
        before=told | {"lifted_at": None, "lifted_by": None} if lifted else None,
        after=told,
        now=now,
    )

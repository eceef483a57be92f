"""Keeping quotas: made, changed and deleted while nobody holds or settles, so that no job slips by."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Text, and_, cast, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from app.accounts import audit_log
from app.accounts.callers import Actor, Caller, RoleForbidden
from app.accounts.listing import newest
from app.accounts.tables import keys, teams, users
from app.db import Tx, plain_of
from app.http import Page
from app.ids import new_id, parse, show
from app.ledger.locks import lock_quotas
from app.ledger.quotas import Applied, Scope, quota_of
from app.ledger.shapes import QuotaBody, QuotaPatch, QuotaQuery, QuotaShown
from app.ledger.tables import quota_usage, quotas
from app.ledger.usage import CLOCKS_AGREE_WITHIN, fill
from app.ledger.windows import Window
from app.problems import InvalidInput, NameTaken, NotFound

_TABLES: Final = {"team": teams, "user": users, "key": keys}
_NOT_HERE: Final = "No quota of this id is here for your key to see."


async def create_quota(tx: Tx, body: QuotaBody, *, actor: Actor, now: datetime) -> QuotaShown:
    """Make a quota. What was held and charged before counts in its windows, which are made when first needed.

    Raises NameTaken when there is one of this scope, metric and window; InvalidInput for a scope_id of nobody.
    """
    if actor.role != "admin" and (body.scope not in {"user", "key"} or body.scope_id is None):
        await _require_reach(tx, actor, body.scope, "")  # by its scope alone: ids are not even looked for
    scope_id = await _stored_scope_id(tx, body, actor)
    await lock_quotas(tx)
    values = {
        "id": new_id(now),
        "scope": body.scope,
        "scope_id": scope_id,
        "metric": body.metric,
        "window": body.window,
        "maximum": body.maximum,
        "alert_percents": body.alert_percents,
        "created_at": now,
    }
    try:
        await tx.execute(insert(quotas).values(**values))
    except IntegrityError as error:
        raise NameTaken(
            "There is a quota of this scope, metric and window already: PATCH its maximum, or delete it first."
        ) from error
    shown = _shown(values)
    await _log(tx, actor, "quota.created", before=None, after=shown, now=now)
    return shown


async def change_quota(tx: Tx, quota_id: UUID, patch: QuotaPatch, *, actor: Actor, now: datetime) -> QuotaShown:
    """Change the maximum or the shares to tell of; what is held above a lowered one stays held. Raises NotFound."""
    wanted = {name: getattr(patch, name) for name in patch.model_fields_set}
    await lock_quotas(tx)
    row = await _find(tx, quota_id, actor)
    await tx.execute(update(quotas).where(quotas.c.id == quota_id).values(wanted))
    before, after = _shown(row), _shown(row | wanted)
    await _log(tx, actor, "quota.changed", before=before, after=after, now=now)
    return after


async def delete_quota(tx: Tx, quota_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Delete it. A default that is in force again counts what was held meanwhile. Raises NotFound."""
    await lock_quotas(tx)
    row = await _find(tx, quota_id, actor)
    await tx.execute(update(quotas).where(quotas.c.id == quota_id).values(deleted_at=now))
    if row["scope_id"]:
        await _refill_default(tx, row, now=now)
    await _log(tx, actor, "quota.deleted", before=_shown(row), after=None, now=now)


async def list_quotas(tx: Tx, query: QuotaQuery, *, actor: Actor) -> Page[QuotaShown]:
    """Live quotas, newest first, as far as the actor may see them."""
    statement = select(quotas).where(quotas.c.deleted_at.is_(None), _visible(actor))
    for name in ("scope", "metric", "window"):
        if (value := getattr(query, name)) is not None:
            statement = statement.where(quotas.c[name] == value)
    if query.scope_id is not None:
        stored = next(
            (made.hex for prefix in _TABLES if (made := parse(prefix, query.scope_id)) is not None), query.scope_id
        )
        statement = statement.where(quotas.c.scope_id == stored)
    if query.cursor is not None and parse("quota", query.cursor) is None:
        raise InvalidInput([{"parameter": "cursor", "detail": "must be a next_cursor of this list"}])
    rows, next_cursor = await newest(tx, statement, quotas.c.id, query, prefix="quota")
    return Page(data=[_shown(row) for row in rows], next_cursor=next_cursor)


def show_scope_id(scope: Scope, scope_id: str) -> str | None:
    """How a stored scope_id is written: null for a default, with its prefix for an id."""
    if not scope_id:
        return None
    return show(scope, UUID(hex=scope_id)) if scope in _TABLES else scope_id


def _shown(row: dict[str, Any]) -> QuotaShown:
    names = ("id", "scope", "metric", "window", "maximum", "alert_percents", "created_at")
    values = {name: row[name] for name in names}
    return QuotaShown(**values, scope_id=show_scope_id(row["scope"], row["scope_id"]))


async def _stored_scope_id(tx: Tx, body: QuotaBody, actor: Actor) -> str:
    """Raises InvalidInput for what is not there, and in the same words for what is not the actor's to keep."""
    if body.scope_id is None or body.scope not in _TABLES:
        return body.scope_id or ""
    made = parse(body.scope, body.scope_id)
    table = _TABLES[body.scope]
    if made is not None and actor.role != "admin" and actor.caller is not None:
        of_team = _in_team(body.scope, made, actor.caller)
    else:
        of_team = select(table.c.id).where(table.c.id == made)
    if made is None or await tx.scalar(of_team) is None:
        raise InvalidInput([{"pointer": "/scope_id", "detail": f"there is no {body.scope} of this id"}])
    return made.hex


async def _find(tx: Tx, quota_id: UUID, actor: Actor) -> dict[str, Any]:
    found = await tx.execute(select(quotas).where(quotas.c.id == quota_id, quotas.c.deleted_at.is_(None)))
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound(_NOT_HERE)
    try:
        await _require_reach(tx, actor, row["scope"], row["scope_id"])
    except RoleForbidden:
        visible = await tx.scalar(select(quotas.c.id).where(quotas.c.id == quota_id, _visible(actor)))
        if visible is None:
            raise NotFound(_NOT_HERE) from None
        raise
    return dict(row)


async def _require_reach(tx: Tx, actor: Actor, scope: str, scope_id: str) -> None:
    """A lead keeps the quotas of its team's users and keys; an admin all. Raises RoleForbidden."""
    if actor.role == "admin":
        return
    caller = actor.caller
    leads = actor.role == "lead" and caller is not None and scope in {"user", "key"} and scope_id != ""
    if leads and caller and await tx.scalar(_in_team(scope, UUID(hex=scope_id), caller)) is not None:
        return
    raise RoleForbidden(
        ("admin",) if actor.role == "lead" else ("lead", "admin"),
        "A lead keeps the quotas of its team's users and keys; only an admin keeps the others.",
    )


def _in_team(scope: str, made: UUID, caller: Caller) -> Any:
    if scope == "user":
        return select(users.c.id).where(users.c.id == made, users.c.team_id == caller.team_id)
    return select(keys.c.id).join(users).where(keys.c.id == made, users.c.team_id == caller.team_id)


def _visible(actor: Actor) -> ColumnElement[bool]:
    """The quotas that could apply to whom the actor sees: all; its team's and members'; its own."""
    caller = actor.caller
    if caller is None or actor.role in {"admin", "finance"}:
        return true()
    own_users = select(users.c.id).where(
        users.c.team_id == caller.team_id if actor.role == "lead" else users.c.id == caller.user_id
    )
    ids: dict[str, Any] = {
        "team": [caller.team_id.hex],
        "user": select(_hex(own_users.selected_columns[0])).where(users.c.id.in_(own_users)),
        "key": select(_hex(keys.c.id)).where(keys.c.user_id.in_(own_users)),
    }
    return or_(
        quotas.c.scope_id == "",
        *(and_(quotas.c.scope == scope, quotas.c.scope_id.in_(allowed)) for scope, allowed in ids.items()),
    )


def _hex(column: ColumnElement[UUID]) -> Any:
    return func.replace(cast(column, Text), "-", "")


async def _refill_default(tx: Tx, deleted: dict[str, Any], *, now: datetime) -> None:
    """Windows of the default that now applies again: they have not seen what was held under the deleted quota.

    Also those that have just ended: a submit may have read its clock before midnight and wait for our lock.
    """
    plain = await plain_of(tx)
    ends_with = f"/{deleted['scope_id']}" if deleted["scope"] == "end_user" else None
    subject = (
        quota_usage.c.subject.endswith(ends_with, autoescape=True)
        if ends_with
        else quota_usage.c.subject == deleted["scope_id"]
    )
    found = await tx.execute(
        select(
            quotas,
            quota_usage.c.id.label("usage_id"),
            quota_usage.c.subject,
            quota_usage.c.starts_at,
            quota_usage.c.ends_at,
        )
        .join(quota_usage, quota_usage.c.quota_id == quotas.c.id)
        .where(
            quotas.c.scope == deleted["scope"],
            quotas.c.scope_id == "",
            quotas.c.metric == deleted["metric"],
            quotas.c.window.is_not_distinct_from(deleted["window"]),
            quotas.c.deleted_at.is_(None),
            subject,
            or_(quota_usage.c.ends_at.is_(None), quota_usage.c.ends_at > now - CLOCKS_AGREE_WITHIN),
        )
    )
    for row in found.mappings().all():
        window = Window(row["starts_at"], row["ends_at"])
        await fill(plain, Applied(quota_of(row), row["subject"], window, row["usage_id"]), row["usage_id"])


async def _log(
    tx: Tx, actor: Actor, action: str, *, before: QuotaShown | None, after: QuotaShown | None, now: datetime
) -> None:
    shown = after or before
    if shown is None:
        raise AssertionError
    await audit_log.write(
        tx,
        actor=actor,
        action=action,
        object_id=show("quota", shown.id),
        before=before.model_dump(mode="json") if before else None,
        after=after.model_dump(mode="json") if after else None,
        now=now,
    )

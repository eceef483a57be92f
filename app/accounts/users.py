"""Users: people and service accounts; made, changed, disabled, listed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.accounts.changes import given, moment_of, save, unique
from app.accounts.listing import newest
from app.accounts.reach import not_found, visible_users
from app.accounts.shapes import User, UserBody, UserPatch, UserQuery
from app.accounts.tables import teams, users
from app.db import Tx
from app.http import Page
from app.ids import new_id, show
from app.problems import InvalidInput


async def create_user(tx: Tx, body: UserBody, *, actor: Actor, now: datetime) -> User:
    """Make a user of a team. Raises InvalidInput for an unknown or archived team, and NameTaken."""
    await _require_team(tx, body.team_id)
    user = User(id=new_id(now), disabled_at=None, created_at=now, **dict(body))
    with unique():
        await tx.execute(insert(users).values(dict(user)))
    await audit_log.write(
        tx,
        actor=actor,
        action="user.created",
        object_id=show("user", user.id),
        before=None,
        after=user.model_dump(mode="json"),
        now=now,
    )
    return user


async def change_user(tx: Tx, user_id: UUID, patch: UserPatch, *, actor: Actor, now: datetime) -> User:
    """Change, move, disable or bring back a user. Raises NotFound, InvalidInput and NameTaken."""
    found = await tx.execute(select(users).where(users.c.id == user_id).with_for_update())
    row = found.mappings().one_or_none()
    was = User(**row) if row else not_found()
    wanted = given(patch)
    if wanted.get("team_id", was.team_id) != was.team_id:
        await _require_team(tx, wanted["team_id"])
    wanted["disabled_at"] = moment_of(wanted.pop("disabled", None), was.disabled_at, now)
    user = was.model_copy(update=wanted)
    await save(tx, users, "user", was=was, becomes=user, actor=actor, now=now)
    return user


async def list_users(tx: Tx, query: UserQuery, *, actor: Actor) -> Page[User]:
    """A page of the users that the actor may see, newest first."""
    statement = select(users).where(visible_users(actor))
    for column in (users.c.team_id, users.c.role, users.c.email, users.c.external_id):
        wanted = getattr(query, column.name)
        if wanted is not None:
            statement = statement.where(column == wanted)
    rows, next_cursor = await newest(tx, statement, users.c.id, query, prefix="user")
    return Page(data=[User(**row) for row in rows], next_cursor=next_cursor)


async def _require_team(tx: Tx, team_id: UUID) -> None:
    found = await tx.execute(select(teams.c.archived_at).where(teams.c.id == team_id))
    row = found.one_or_none()
    if row is None:
        raise InvalidInput([{"pointer": "/team_id", "detail": "there is no such team"}])
    if row.archived_at is not None:
        raise InvalidInput([{"pointer": "/team_id", "detail": "this team is archived"}])

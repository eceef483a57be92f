"""Teams: made, changed, archived, listed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.accounts.changes import given, moment_of, save, unique
from app.accounts.listing import newest
from app.accounts.reach import not_found
from app.accounts.shapes import Team, TeamBody, TeamPatch, TeamQuery
from app.accounts.tables import teams
from app.db import Tx
from app.http import Page
from app.ids import new_id, show


async def create_team(tx: Tx, body: TeamBody, *, actor: Actor, now: datetime) -> Team:
    """Make a team. Raises NameTaken."""
    team = Team(id=new_id(now), archived_at=None, created_at=now, **dict(body))
    with unique():
        await tx.execute(insert(teams).values(dict(team)))
    await audit_log.write(
        tx,
        actor=actor,
        action="team.created",
        object_id=show("team", team.id),
        before=None,
        after=team.model_dump(mode="json"),
        now=now,
    )
    return team


async def change_team(tx: Tx, team_id: UUID, patch: TeamPatch, *, actor: Actor, now: datetime) -> Team:
    """Change, archive or bring back a team. Raises NotFound and NameTaken."""
    found = await tx.execute(select(teams).where(teams.c.id == team_id).with_for_update())
    row = found.mappings().one_or_none()
    was = Team(**row) if row else not_found()
    wanted = given(patch)
    wanted["archived_at"] = moment_of(wanted.pop("archived", None), was.archived_at, now)
    team = was.model_copy(update=wanted)
    await save(tx, teams, "team", was=was, becomes=team, actor=actor, now=now)
    return team


async def list_teams(tx: Tx, query: TeamQuery) -> Page[Team]:
    """A page of teams, newest first."""
    statement = select(teams)
    if query.external_id is not None:
        statement = statement.where(teams.c.external_id == query.external_id)
    rows, next_cursor = await newest(tx, statement, teams.c.id, query, prefix="team")
    return Page(data=[Team(**row) for row in rows], next_cursor=next_cursor)

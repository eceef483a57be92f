"""Teams: made, changed, archived, listed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select

from app.accounts import alerting, audit_log
from app.accounts.callers import Actor, RoleForbidden
from app.accounts.changes import given, moment_of, save, unique
from app.accounts.listing import newest
from app.accounts.reach import not_found
from app.accounts.shapes import Team, TeamBody, TeamPatch, TeamQuery
from app.accounts.tables import teams
from app.db import Tx
from app.http import Page
from app.ids import new_id, show
from app.settings import Settings


async def create_team(tx: Tx, body: TeamBody, *, actor: Actor, now: datetime) -> Team:
    """Make a team. Raises NameTaken."""
    nowhere = dict.fromkeys(alerting.FIELDS)
    team = Team(id=new_id(now), archived_at=None, created_at=now, **dict(body), **nowhere)
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


async def change_team(
    tx: Tx, team_id: UUID, patch: TeamPatch, *, actor: Actor, settings: Settings, now: datetime
) -> Team:
    """Change, archive or bring back a team, or say where its alerts go, which is all that its leads may.

    Raises RoleForbidden, NotFound, NameTaken, and InvalidInput for alerts that could not be sent there.
    """
    wanted = given(patch)
    own = actor.caller is not None and actor.caller.team_id == team_id
    if actor.role != "admin" and not (own and wanted and alerting.FIELDS.issuperset(wanted)):
        raise RoleForbidden(["admin"], "A lead says where the alerts of its own team go; only an admin changes more.")
    found = await tx.execute(select(teams).where(teams.c.id == team_id).with_for_update())
    row = found.mappings().one_or_none()
    was = Team(**row) if row else not_found()
    wanted |= await alerting.complete(tx, was, wanted, actor=actor, settings=settings)
    wanted["archived_at"] = moment_of(wanted.pop("archived", None), was.archived_at, now)
    team = was.model_copy(update=wanted)
    await save(tx, teams, "team", was=was, becomes=team, actor=actor, now=now)
    return team


async def list_teams(tx: Tx, query: TeamQuery, *, actor: Actor) -> Page[Team]:
    """A page of teams, newest first; their alert URLs are whole for admins alone."""
    statement = select(teams)
    if query.external_id is not None:
        statement = statement.where(teams.c.external_id == query.external_id)
    rows, next_cursor = await newest(tx, statement, teams.c.id, query, prefix="team")
    shown = [Team(**row) for row in rows]
    return Page(data=shown if actor.role == "admin" else [*map(alerting.masked, shown)], next_cursor=next_cursor)

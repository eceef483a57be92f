"""`/v1/teams`: admins make and change them, finance reads them, leads say where the alerts of theirs go."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query

from app.accounts import teams
from app.accounts.access import Admin, require_role
from app.accounts.callers import Actor
from app.accounts.reach import found_id
from app.accounts.shapes import Team, TeamBody, TeamPatch, TeamQuery
from app.http import JsonRoute, Page
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["teams"])


@router.post(
    "/v1/teams",
    status_code=201,
    operation_id="create_team",
    responses=responses(401, 403, 409, 413, 415, 422, 503),
)
async def create_team(body: TeamBody, actor: Admin, wired: Wired) -> Team:
    """Make a team."""
    async with wired.db.begin() as tx:
        return await teams.create_team(tx, body, actor=actor, now=wired.clock())


@router.get("/v1/teams", operation_id="list_teams", responses=responses(401, 403, 422, 503))
async def list_teams(
    query: Annotated[TeamQuery, Query()],
    actor: Annotated[Actor, Depends(require_role("finance", "admin"))],
    wired: Wired,
) -> Page[Team]:
    """List the teams."""
    async with wired.db.reading() as tx:
        return await teams.list_teams(tx, query, actor=actor)


@router.patch(
    "/v1/teams/{id}",
    operation_id="change_team",
    responses=responses(401, 403, 404, 409, 413, 415, 422, 503),
)
async def change_team(
    team_id: Annotated[str, Path(alias="id", examples=["team_0190f5c4a8b07d3e9b1f2a3c4d5e6f70"])],
    patch: TeamPatch,
    actor: Annotated[Actor, Depends(require_role("lead", "admin"))],
    wired: Wired,
) -> Team:
    """Change a team, archive it or bring it back; a lead says where the alerts of its own team go."""
    found = found_id("team", team_id)
    async with wired.db.begin() as tx:
        return await teams.change_team(tx, found, patch, actor=actor, settings=wired.settings, now=wired.clock())

"""`/v1/freeze`, `/v1/freezes`: leads freeze users and keys of their team, admins whomever."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query

from app.accounts import freezes
from app.accounts.access import AnyActor, require_role
from app.accounts.callers import Actor
from app.accounts.reach import found_id
from app.accounts.shapes import Freeze, FreezeBody, FreezeQuery
from app.http import JsonRoute, Page
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["freezes"])

_Freezer = Annotated[Actor, Depends(require_role("lead", "admin"))]


@router.post(
    "/v1/freeze",
    status_code=201,
    operation_id="create_freeze",
    responses=responses(401, 403, 409, 413, 415, 422, 503),
)
async def create_freeze(body: FreezeBody, actor: _Freezer, wired: Wired) -> Freeze:
    """Freeze a team, a user, a key or everybody: no job of theirs is accepted or sent until it is lifted.

    What fal has already is looked after as ever; reading, cancelling and webhooks go on.
    """
    async with wired.db.begin() as tx:
        return await freezes.create_freeze(tx, body, actor=actor, now=wired.clock())


@router.get("/v1/freezes", operation_id="list_freezes", responses=responses(401, 422, 503))
async def list_freezes(query: Annotated[FreezeQuery, Query()], actor: AnyActor, wired: Wired) -> Page[Freeze]:
    """List freezes, newest first: those that cover you; for a lead the team's too; for finance and admins all."""
    async with wired.db.reading() as tx:
        return await freezes.list_freezes(tx, query, actor=actor)


@router.delete(
    "/v1/freezes/{id}",
    status_code=204,
    operation_id="lift_freeze",
    responses=responses(401, 403, 404, 422, 503),
)
async def lift_freeze(
    freeze_id: Annotated[str, Path(alias="id", examples=["freeze_0190f5c4a8b07d3e9b1f2a3c4d5e6f70"])],
    actor: _Freezer,
    wired: Wired,
) -> None:
    """Lift a freeze: what waits goes on. Doing it twice changes nothing."""
    found = found_id("freeze", freeze_id)
    async with wired.db.begin() as tx:
        await freezes.lift_freeze(tx, found, actor=actor, now=wired.clock())

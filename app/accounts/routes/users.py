"""`/v1/users`: admins make and change them; finance reads all of them, a lead those of its team."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query

from app.accounts import users
from app.accounts.access import Admin, require_role
from app.accounts.callers import Actor
from app.accounts.reach import found_id
from app.accounts.shapes import User, UserBody, UserPatch, UserQuery
from app.http import JsonRoute, Page
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["users"])


@router.post(
    "/v1/users",
    status_code=201,
    operation_id="create_user",
    responses=responses(401, 403, 409, 413, 415, 422, 503),
)
async def create_user(body: UserBody, actor: Admin, wired: Wired) -> User:
    """Make a user of a team."""
    async with wired.db.begin() as tx:
        return await users.create_user(tx, body, actor=actor, now=wired.clock())


@router.get("/v1/users", operation_id="list_users", responses=responses(401, 403, 422, 503))
async def list_users(
    query: Annotated[UserQuery, Query()],
    actor: Annotated[Actor, Depends(require_role("lead", "finance", "admin"))],
    wired: Wired,
) -> Page[User]:
    """List the users that you may see."""
    async with wired.db.reading() as tx:
        return await users.list_users(tx, query, actor=actor)


@router.patch(
    "/v1/users/{id}",
    operation_id="change_user",
    responses=responses(401, 403, 404, 409, 413, 415, 422, 503),
)
async def change_user(
    user_id: Annotated[str, Path(alias="id", examples=["user_0190f5c4a8b07d3e9b1f2a3c4d5e6f70"])],
    patch: UserPatch,
    actor: Admin,
    wired: Wired,
) -> User:
    """Change a user, move it to another team, disable it or bring it back."""
    found = found_id("user", user_id)
    async with wired.db.begin() as tx:
        return await users.change_user(tx, found, patch, actor=actor, now=wired.clock())

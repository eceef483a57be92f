"""`/v1/keys`: a lead makes them for its team; everybody lists, renames, rotates and revokes their own."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query

from app.accounts import keys
from app.accounts.access import AnyActor, require_role
from app.accounts.callers import Actor
from app.accounts.reach import found_id
from app.accounts.shapes import Key, KeyBody, KeyPatch, KeyQuery, KeyRotation, MadeKey
from app.http import JsonRoute, Page
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["keys"])

_KeyPath = Annotated[str, Path(alias="id", examples=["key_0190f5c4a8b07d3e9b1f2a3c4d5e6f70"])]


@router.post(
    "/v1/keys",
    status_code=201,
    operation_id="create_key",
    responses=responses(401, 403, 413, 415, 422, 503),
)
async def create_key(
    body: KeyBody, actor: Annotated[Actor, Depends(require_role("lead", "admin"))], wired: Wired
) -> MadeKey:
    """Make a key of a user. Its secret is shown in this answer and never again."""
    async with wired.db.begin() as tx:
        return await keys.create_key(tx, body, actor=actor, now=wired.clock())


@router.get("/v1/keys", operation_id="list_keys", responses=responses(401, 422, 503))
async def list_keys(query: Annotated[KeyQuery, Query()], actor: AnyActor, wired: Wired) -> Page[Key]:
    """List the keys that you may see."""
    async with wired.db.reading() as tx:
        return await keys.list_keys(tx, query, actor=actor)


@router.patch("/v1/keys/{id}", operation_id="change_key", responses=responses(401, 403, 404, 413, 415, 422, 503))
async def change_key(key_id: _KeyPath, patch: KeyPatch, actor: AnyActor, wired: Wired) -> Key:
    """Rename a key."""
    found = found_id("key", key_id)
    async with wired.db.begin() as tx:
        return await keys.change_key(tx, found, patch, actor=actor, now=wired.clock())


@router.delete(
    "/v1/keys/{id}",
    status_code=204,
    operation_id="revoke_key",
    responses=responses(401, 403, 404, 422, 503),
)
async def revoke_key(key_id: _KeyPath, actor: AnyActor, wired: Wired) -> None:
    """Revoke a key: it is refused from now on, and for ever. Doing it twice changes nothing."""
    found = found_id("key", key_id)
    async with wired.db.begin() as tx:
        await keys.revoke_key(tx, found, actor=actor, now=wired.clock())


@router.post(
    "/v1/keys/{id}/rotate",
    operation_id="rotate_key",
    responses=responses(401, 403, 404, 409, 413, 415, 422, 503),
)
async def rotate_key(key_id: _KeyPath, body: KeyRotation, actor: AnyActor, wired: Wired) -> MadeKey:
    """Give a key a new secret, shown in this answer and never again; the key keeps its id, quotas and jobs.

    The old secret works on for `grace_seconds`.
    """
    found = found_id("key", key_id)
    async with wired.db.begin() as tx:
        return await keys.rotate_key(tx, found, body, actor=actor, now=wired.clock())

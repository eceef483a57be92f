"""`/v1/quotas`, `/v1/me`."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from sqlalchemy import select

from app.accounts.access import AnyActor, Calling, require_role
from app.accounts.alerting import masked
from app.accounts.callers import Actor
from app.accounts.reach import found_id
from app.accounts.shapes import Team, User
from app.accounts.tables import teams, users
from app.db import plain_of
from app.http import JsonRoute, Page
from app.ledger import quota_book
from app.ledger.quotas import Holder, applying_to, find_applying
from app.ledger.shapes import (
    Me,
    QuotaBody,
    QuotaPatch,
    QuotaQuery,
    QuotaShown,
    QuotaStanding,
)
from app.ledger.usage import read_usage
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute)

Keeper = Annotated[Actor, Depends(require_role("lead", "admin"))]


@router.get("/v1/me", tags=["me"], operation_id="get_me", responses=responses(401, 403, 503))
async def get_me(caller: Calling, wired: Wired) -> Me:
    """Who you are, and each quota that applies to you, as it stands now."""
    holder = Holder(caller.team_id, caller.user_id, caller.key_id, None)
    async with wired.db.reading() as tx:
        user = (await tx.execute(select(users).where(users.c.id == caller.user_id))).mappings().one()
        team = (await tx.execute(select(teams).where(teams.c.id == caller.team_id))).mappings().one()
        plain = await plain_of(tx)
        by_subject = await find_applying(plain, [holder], now=wired.clock(), zone=wired.settings.zone)
        standings = []
        for applied in applying_to(holder, by_subject):
            usage, quota, window = await read_usage(plain, applied), applied.quota, applied.window
            standings.append(
                QuotaStanding(
                    quota_id=quota.id,
                    scope=quota.scope,
                    scope_id=quota_book.show_scope_id(quota.scope, quota.scope_id),
                    metric=quota.metric,
                    window=quota.window,
                    maximum=quota.maximum,
                    used=usage.used,
                    held=usage.held,
                    remaining=max(quota.maximum - usage.used - usage.held, usage.held * 0),
                    window_starts_at=window.starts_at if window.ends_at else None,
                    window_ends_at=window.ends_at,
                )
            )
    shown = Team(**team) if caller.role in {"lead", "admin"} else masked(Team(**team))
    return Me(user=User(**user), team=shown, role=caller.role, quotas=standings)


@router.post(
    "/v1/quotas",
    tags=["quotas"],
    status_code=201,
    operation_id="create_quota",
    responses=responses(401, 403, 409, 413, 415, 422, 503),
)
async def create_quota(body: QuotaBody, actor: Keeper, wired: Wired) -> QuotaShown:
    """Make a quota; what was held and charged before in its window counts."""
    async with wired.db.begin() as tx:
        return await quota_book.create_quota(tx, body, actor=actor, now=wired.clock())


@router.get("/v1/quotas", tags=["quotas"], operation_id="list_quotas", responses=responses(401, 403, 422, 503))
async def list_quotas(query: Annotated[QuotaQuery, Query()], actor: AnyActor, wired: Wired) -> Page[QuotaShown]:
    """List quotas, newest first."""
    async with wired.db.reading() as tx:
        return await quota_book.list_quotas(tx, query, actor=actor)


@router.patch(
    "/v1/quotas/{id}",
    tags=["quotas"],
    operation_id="change_quota",
    responses=responses(401, 403, 404, 413, 415, 422, 503),
)
async def change_quota(
    quota_id: Annotated[str, Path(alias="id")], patch: QuotaPatch, actor: Keeper, wired: Wired
) -> QuotaShown:
    """Change a quota's maximum, or the shares of it at which its team is told."""
    found = found_id("quota", quota_id)
    async with wired.db.begin() as tx:
        return await quota_book.change_quota(tx, found, patch, actor=actor, now=wired.clock())


@router.delete(
    "/v1/quotas/{id}",
    tags=["quotas"],
    status_code=204,
    operation_id="delete_quota",
    responses=responses(401, 403, 404, 422, 503),
)
async def delete_quota(quota_id: Annotated[str, Path(alias="id")], actor: Keeper, wired: Wired) -> Response:
    """Delete a quota."""
    found = found_id("quota", quota_id)
    async with wired.db.begin() as tx:
        await quota_book.delete_quota(tx, found, actor=actor, now=wired.clock())
    return Response(status_code=204)

"""`/v1/months`: closing them, opening one again, and which were closed."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query

from app.accounts.access import Admin, require_role
from app.accounts.callers import Actor
from app.http import JsonRoute, Page
from app.ledger.months import closing
from app.ledger.months.shapes import Closing, Month, MonthQuery, MonthText, Reopening
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["months"])

_Bookkeeper = Annotated[Actor, Depends(require_role("finance", "admin"))]
_Month = Annotated[MonthText, Path(description="In TIMEZONE, like `2026-10`.")]


@router.post("/v1/months/{month}/close", operation_id="close_month", responses=responses(401, 403, 409, 422, 503))
async def close_month(month: _Month, actor: _Bookkeeper, wired: Wired) -> Closing:
    """Close a month that has ended, and every earlier one: its totals never change again.

    What comes later is booked in the open month.
    """
    async with wired.db.begin() as tx:
        return await closing.close_month(tx, month, actor=actor, now=wired.clock(), zone=wired.settings.zone)


@router.post(
    "/v1/months/{month}/reopen",
    operation_id="reopen_month",
    responses=responses(401, 403, 409, 413, 415, 422, 503),
)
async def reopen_month(month: _Month, reopening: Reopening, actor: Admin, wired: Wired) -> Month:
    """Open the newest closed month again, and say why. Close it once more when that is done."""
    async with wired.db.begin() as tx:
        return await closing.reopen_month(tx, month, reopening, actor=actor, now=wired.clock())


@router.get("/v1/months", operation_id="list_months", responses=responses(401, 403, 422, 503))
async def list_months(query: Annotated[MonthQuery, Query()], _: _Bookkeeper, wired: Wired) -> Page[Month]:
    """List what was closed, newest first: by whom, when, at which totals; what was reopened too."""
    async with wired.db.reading() as tx:
        return await closing.list_months(tx, query)

"""Closing months in a house: the acts, and what a month comes to."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.accounts.callers import COMMAND_LINE
from app.jobs.ends.adjust_by_hand import AdjustmentBody, create_adjustment
from app.ledger.months.closing import bounds_of, close_month, reopen_month
from app.ledger.months.shapes import Closing, Month, Reopening
from app.ledger.months.sums import SQL_GIVEN, sql_summed
from app.ledger.spend import SUMS

from .house import House


async def close(house: House, month: date) -> Closing:
    async with house.db.begin() as tx:
        return await close_month(tx, month, actor=COMMAND_LINE, now=house.clock(), zone=house.wiring.settings.zone)


async def reopen(house: House, month: date, note: str = "a bill came late") -> Month:
    async with house.db.begin() as tx:
        return await reopen_month(tx, month, Reopening(note=note), actor=COMMAND_LINE, now=house.clock())


async def adjust(house: House, job_id: UUID, usd: str, *, month: date | None = None, key: str | None = None) -> Any:
    body = AdjustmentBody(amount_usd=Decimal(usd), note="asked", month=month)
    return await create_adjustment(house.rooms, COMMAND_LINE, job_id, body, idempotency_key=key)


async def sums(house: House, month: date, sql: Callable[[str], str] = sql_summed) -> dict[str, Any]:
    """What a report of this month adds up to, or what its entries tell."""
    starts_at, ends_at = bounds_of(month, house.wiring.settings.zone)
    (row,) = await house.rows(sql(SQL_GIVEN), [month], [starts_at], [ends_at])
    return {name: row[name] for name in SUMS}


def totals(month: Month) -> dict[str, Any]:
    return {name: getattr(month, name) for name in SUMS}

"""`spend_daily` and `spend_monthly`: entries summed by day and by month, for each team, user, key and model.

Caches of entries, raised in the transaction that writes those. A job is counted in `jobs` on the day its hold was
booked, and among `succeeded`, `failed` or `canceled` on the day its settle or void was; both are written when it ends,
so that no submit touches these rows: what is under way is added by whoever reads (DESIGN section 4).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from app.db import Database, Plain
from app.ledger.entries import SQL_CHARGES, SQL_ENDED
from app.ledger.locks import EXCLUSIVE_LOCK
from app.ledger.windows import days_through, first_instant

SUMS: Final = ("charged_usd", "seconds", "jobs", "succeeded", "failed", "canceled")
"""The columns of both tables that are added up; money and seconds NUMERIC, the others counts."""

_GROUP: Final = "team_id, user_id, key_id, model"
_MONTH: Final = "date_trunc('month', day::timestamp)::date"


def _sql_raise(table: str, period: str) -> str:
    return f"""
INSERT INTO {table} AS s ({period}, {_GROUP}, {", ".join(SUMS)})
SELECT {period}, {_GROUP}, {", ".join(f"sum({name})" for name in SUMS)} FROM booked GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, 5
ON CONFLICT ON CONSTRAINT {table}_pkey DO UPDATE SET
{", ".join(f"{name} = s.{name} + excluded.{name}" for name in SUMS)}"""  # noqa: S608  ours


_RAISE: Final = f"""
WITH booked AS (
    SELECT b.*, {_MONTH} AS month
    FROM unnest($1::date[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::numeric[], $7::numeric[], $8::bigint[],
                $9::bigint[], $10::bigint[], $11::bigint[])
        AS b (day, {_GROUP}, {", ".join(SUMS)})
), daily AS ({_sql_raise("spend_daily", "day")})
{_sql_raise("spend_monthly", "month")}
"""  # noqa: S608  ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What an entry, or the end of a job, adds to a day."""

    day: date
    team_id: UUID
    user_id: UUID
    key_id: UUID
    model: str
    charged_usd: Decimal
    seconds: Decimal
    jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0


async def raise_spend(plain: Plain, spent: Sequence[Spent]) -> None:
    """Add to both tables, their rows locked in one order."""
    names = ("day", "team_id", "user_id", "key_id", "model", *SUMS)
    if spent:
        await plain.execute(_RAISE, *([getattr(one, name) for one in spent] for name in names))


def _sql_told(within: str = "true") -> str:
    return f"""
SELECT day, {_GROUP}, {", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in SUMS)} FROM (
    SELECT ($1::date[])[width_bucket(e.booked_at, $2::timestamptz[])] AS day,
           e.team_id, e.user_id, e.key_id, e.model,
           CASE WHEN {SQL_CHARGES} THEN e.amount_usd ELSE 0 END AS charged_usd,
           CASE WHEN {SQL_CHARGES} THEN e.seconds ELSE 0 END AS seconds,
           0 AS jobs, (r.status = 'succeeded')::int AS succeeded, (r.status = 'failed')::int AS failed,
           (r.status = 'canceled')::int AS canceled
    FROM entries e {SQL_ENDED}
    WHERE e.kind <> 'hold' AND {within.format("e")}
    UNION ALL
    SELECT ($1::date[])[width_bucket(h.booked_at, $2::timestamptz[])], h.team_id, h.user_id, h.key_id, h.model,
           0, 0, 1, 0, 0, 0
    FROM entries h JOIN entries e ON e.resolves_id = h.id AND e.job_id = h.job_id
    WHERE h.kind = 'hold' AND {within.format("h")}
) t GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608  ours


SQL_TOLD: Final = _sql_told()
"""`spend_daily` as entries tell it; `$1` and `$2` are the days that entries were booked on (`days_of_entries`)."""

_DAYS_AT_ONCE: Final = 7
_OTHERS: Final = "DELETE FROM spend_daily WHERE day <> ALL ($1::date[])"
_OTHER_MONTHS: Final = "DELETE FROM spend_monthly WHERE month <> ALL ($1::date[])"
# A period's rows lie together, as they were first written.
_DAYS: Final = f"""
INSERT INTO spend_daily (day, {_GROUP}, {", ".join(SUMS)})
{_sql_told("{0}.booked_at >= $3 AND {0}.booked_at < $4")} ORDER BY 1, 2, 3, 4, 5
"""
_A_MONTH: Final = f"""
INSERT INTO spend_monthly (month, {_GROUP}, {", ".join(SUMS)})
SELECT $1::date, {_GROUP}, {", ".join(f"sum({name})" for name in SUMS)} FROM spend_daily
WHERE day >= $1::date AND {_MONTH} = $1::date AND day < $1::date + 31 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""  # noqa: S608  ours
_COUNTED: Final = """
UPDATE books SET counted_until = greatest(now(), least(
    now() + interval '5 minutes', (SELECT max(booked_at) FROM entries WHERE kind IN ('settle', 'void'))))
"""
"""A replica's clock may be some minutes fast."""
_SPAN: Final = "SELECT min(booked_at), max(booked_at) FROM entries"


async def days_of_entries(plain: Plain, zone: ZoneInfo) -> tuple[list[date], list[datetime]]:
    """Every day from the first entry to the last, and the moment it begins."""
    first, last = await plain.fetchrow(_SPAN, timeout=None) or (None, None)
    return days_through(first, last, zone) if first is not None and last is not None else ([], [])


async def rebuild_spend(db: Database, *, zone: ZoneInfo) -> None:
    """Write both tables anew from entries, a week at a time: whoever holds or settles waits no longer. Commits.

    Killed half-way it leaves what it has not come to as it was; it may be begun again.
    """
    async with _alone(db) as plain:
        days, starts = await days_of_entries(plain, zone)
        months = sorted({day.replace(day=1) for day in days})
        await plain.execute(_OTHERS, days)
        await plain.execute(_OTHER_MONTHS, months)
    ends = [*starts[1:], *(first_instant(day + timedelta(days=1), zone) for day in days[-1:])]
    for first in range(0, len(days), _DAYS_AT_ONCE):
        some = slice(first, first + _DAYS_AT_ONCE)
        async with _alone(db) as plain:
            await plain.execute("DELETE FROM spend_daily WHERE day = ANY ($1::date[])", days[some])
            await plain.execute(_DAYS, days[some], starts[some], starts[some][0], ends[some][-1], timeout=None)
            if ends[some][-1] == ends[-1]:
                await plain.execute(_COUNTED, timeout=None)
    for month in months:
        async with _alone(db) as plain:
            await plain.execute("DELETE FROM spend_monthly WHERE month = $1", month)
            await plain.execute(_A_MONTH, month, timeout=None)


@asynccontextmanager
async def _alone(db: Database) -> AsyncIterator[Plain]:
    """A transaction in which nobody holds or settles."""
    async with db.begin_plain() as plain:
        await plain.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await plain.execute(f"SELECT {EXCLUSIVE_LOCK}")
        yield plain


async def is_spend_missing(plain: Plain) -> bool:
    """Whether months were never summed: what came before them was written by an older release."""
    return bool(
        await plain.fetchval(
            "SELECT EXISTS (SELECT FROM entries WHERE kind <> 'hold') AND NOT EXISTS (SELECT FROM spend_monthly)",
            timeout=None,
        )
    )

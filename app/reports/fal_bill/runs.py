"""When fal's bill was read, for which period, and what came of it: one row a run."""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.db import Database, Lock, Plain
from app.ids import new_id

USUAL_PERIOD: Final = timedelta(days=35)
"""Looked at by default, and each day: a whole month and some days in which events may come late."""
EVERY: Final = timedelta(days=1)
RETRY: Final = timedelta(minutes=30)

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_RUN: Final = timedelta(hours=1)  # what has not finished by then was killed
_FIRST: Final = f"SELECT pg_advisory_xact_lock({Lock.RECONCILE})"

_BEGIN: Final = "INSERT INTO reconciliations (id, since, until, started_at, by) VALUES ($1, $2, $3, $4, $5)"
_IS_DUE: Final = """
SELECT NOT EXISTS (
    SELECT FROM reconciliations
    WHERE (figures IS NOT NULL AND until - since >= $2 AND started_at > $1::timestamptz - $3::interval)
       OR (error IS NOT NULL AND finished_at > $1::timestamptz - $4::interval)
       OR (finished_at IS NULL AND started_at > $1::timestamptz - $5::interval)
)
"""
_FAILED: Final = "UPDATE reconciliations SET finished_at = $2, error = $3 WHERE id = $1"
_DONE: Final = "UPDATE reconciliations SET finished_at = $2, figures = $3 WHERE id = $1"
_READ: Final = "SELECT since, until, started_at FROM reconciliations WHERE figures IS NOT NULL ORDER BY started_at, id"
_LAST: Final = """
SELECT since, until, started_at, finished_at, by, error, figures::text FROM reconciliations ORDER BY id DESC LIMIT 1
"""


async def begin_run(db: Database, since: datetime, until: datetime, *, by: str, now: datetime) -> UUID:
    """Remember that it has begun; its id."""
    async with db.begin_plain() as plain:
        return await _begin(plain, since, until, by, now)


async def begin_daily_run(db: Database, *, by: str, now: datetime) -> UUID | None:
    """As `begin_run`, for the usual period until now; None when none is due, or another replica has begun it."""
    async with db.plain() as plain:
        if not await _is_due(plain, now):
            return None
    async with db.begin_plain(first=_FIRST) as plain:
        return await _begin(plain, now - USUAL_PERIOD, now, by, now) if await _is_due(plain, now) else None


async def _is_due(plain: Plain, now: datetime) -> bool:
    return bool(await plain.fetchval(_IS_DUE, now, USUAL_PERIOD, EVERY, RETRY, _LONGEST_RUN))


async def _begin(plain: Plain, since: datetime, until: datetime, by: str, now: datetime) -> UUID:
    run_id = new_id(now)
    await plain.execute(_BEGIN, run_id, since, until, now, by)
    return run_id


async def fail_run(db: Database, run_id: UUID, reason: str, *, now: datetime) -> None:
    """fal's bill could not be read."""
    async with db.begin_plain() as plain:
        await plain.execute(_FAILED, run_id, now, reason)


async def finish_run(plain: Plain, run_id: UUID, figures: Mapping[str, Any], *, now: datetime) -> None:
    """fal's bill was read, and is kept; `figures` are what came of it so far."""
    await plain.execute(_DONE, run_id, now, json.dumps(figures))


async def last_run(plain: Plain) -> dict[str, Any] | None:
    """The newest, whatever became of it."""
    row = await plain.fetchrow(_LAST)
    return None if row is None else {**row, "figures": json.loads(row["figures"]) if row["figures"] else None}


@dataclass(frozen=True, slots=True)
class Coverage:
    """From each of `bounds` to the next fal's bill was last read at the moment beside it; None: it never was."""

    bounds: Sequence[datetime]
    read_at: Sequence[datetime | None]


async def read_coverage(plain: Plain) -> Coverage:
    """When fal's bill was last read, for any moment."""
    runs = await plain.fetch(_READ)
    bounds = sorted({row[end] for row in runs for end in ("since", "until")}) or [_NEVER]
    read_at: list[datetime | None] = [None] * len(bounds)
    for row in runs:
        first, last = bisect_left(bounds, row["since"]), bisect_left(bounds, row["until"])
        read_at[first:last] = [row["started_at"]] * (last - first)
    return Coverage(bounds, read_at)

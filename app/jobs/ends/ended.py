"""How many jobs have ended, by model and status: exact, alike at any replica, and cheap however many there were.

Counting them all at each scrape is no option, and a counter raised by the transaction that ends a job would be a row
that all endings wait for. So what ended more than an hour ago is folded into `ended_jobs` now and then, and what ended
since `through` is counted by the index on `finished_at`. An ending is never written an hour after the clock it carries:
Postgres ends a transaction that waits longer than a minute, and replicas' clocks agree to much less.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.db import Database, Lock, Plain

_SETTLED_AFTER: Final = timedelta(hours=1)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LOCK: Final = f"SELECT pg_advisory_xact_lock({Lock.FOLD_ENDED})"

_THROUGH: Final = "SELECT coalesce(max(through), $1) FROM ended_jobs"
_FOLD: Final = """
INSERT INTO ended_jobs AS e (model, status, jobs, through)
SELECT model, status, count(*), $2 FROM jobs WHERE finished_at >= $1 AND finished_at < $2 GROUP BY model, status
ON CONFLICT ON CONSTRAINT ended_jobs_pkey DO UPDATE SET jobs = e.jobs + excluded.jobs, through = excluded.through
"""
_FOLDED: Final = "SELECT model, status, jobs, max(through) OVER () AS through FROM ended_jobs"
_SINCE: Final = "SELECT model, status, count(*) AS jobs FROM jobs WHERE finished_at >= $1 GROUP BY model, status"


async def fold_ended(db: Database, *, now: datetime) -> None:
    """Fold what ended long enough ago. Any replica may, at any time."""
    async with db.begin_plain() as plain:
        await plain.execute(_LOCK)
        await plain.execute(_FOLD, await plain.fetchval(_THROUGH, _BEGINNING), now - _SETTLED_AFTER)


async def count_ended(plain: Plain) -> dict[tuple[str, str], int]:
    """Jobs that have ended, by model and status.

    Two statements may see two instants: what is folded between them is still counted once, by the older `through`.
    """
    folded = await plain.fetch(_FOLDED)
    since: list[Any] = await plain.fetch(_SINCE, folded[0]["through"] if folded else _BEGINNING)
    counts: dict[tuple[str, str], int] = {}
    for row in (*folded, *since):
        place = (row["model"], row["status"])
        counts[place] = counts.get(place, 0) + row["jobs"]
    return counts

"""Making windows: a row is created in its own transaction, filled from what was held and charged before it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.db import Database, Plain
from app.ids import first_id, new_id
from app.ledger.entries import SQL_CHARGES
from app.ledger.locks import EXCLUSIVE_LOCK, SHARED_LOCK
from app.ledger.quotas import Applied

_CREATE: Final = """
INSERT INTO quota_usage (id, quota_id, subject, starts_at, ends_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT quota_usage_quota_id_subject_starts_at_key DO NOTHING RETURNING id
"""
_LAST_CHANGE: Final = """
SELECT max(greatest(created_at, deleted_at)) FROM quotas
WHERE scope = $1 AND metric = $2 AND "window" IS NOT DISTINCT FROM $3
"""
_COUNTING_SECONDS: Final = 3600.0  # a lifetime of jobs may have to be counted
CLOCKS_AGREE_WITHIN: Final = timedelta(minutes=5)

# The ledger reads jobs' rows in this file, in `audit` and for `months`, nowhere else: which windows a job remembers,
# and what is under way, is written on the job, and these must know it.
_SUBJECT: Final = {
    "organization": "$1 = ''",
    "team": "j.team_id = $1::uuid",
    "user": "j.user_id = $1::uuid",
    "key": "j.key_id = $1::uuid AND j.user_id = (SELECT user_id FROM keys WHERE id = $1::uuid)",
    "end_user": "j.team_id = split_part($1, '/', 1)::uuid AND j.end_user = substr($1, strpos($1, '/') + 1)",
}
_FIGURES: Final = f"""
SELECT count(DISTINCT e.job_id) AS jobs,
       count(DISTINCT e.job_id) FILTER (WHERE c.finished_at IS NULL) AS in_flight,
       coalesce(sum(e.amount_usd) FILTER (WHERE e.kind = 'hold' AND c.finished_at IS NULL), 0) AS held_usd,
       coalesce(sum(e.seconds) FILTER (WHERE e.kind = 'hold' AND c.finished_at IS NULL), 0) AS held_seconds,
       coalesce(sum(e.amount_usd) FILTER (WHERE {SQL_CHARGES}), 0) AS used_usd,
       coalesce(sum(e.seconds) FILTER (WHERE {SQL_CHARGES}), 0) AS used_seconds
FROM counted c JOIN entries e ON e.job_id = c.id
"""  # noqa: S608  ours


@dataclass(frozen=True, slots=True)
class Usage:
    """What a window has counted."""

    used: Decimal
    held: Decimal


async def create_windows(db: Database, missing: Iterable[Applied], *, now: datetime) -> None:
    """Make the rows of these windows, each counting what was held in it before it had one. Commits."""
    wanted = {(applied.quota.id, applied.subject): applied for applied in missing}
    ordered = [wanted[key] for key in sorted(wanted)]
    if not await _create(db, ordered, now=now, alone=False):
        await _create(db, ordered, now=now, alone=True)


async def _create(db: Database, ordered: Sequence[Applied], *, now: datetime, alone: bool) -> bool:
    """Make them, `alone` with nobody holding or settling; False: that is needed, and nothing was made."""
    async with db.begin_plain() as plain:
        await plain.execute("SET LOCAL statement_timeout = 0")  # a lifetime of jobs may have to be counted
        await plain.execute(f"SELECT {EXCLUSIVE_LOCK if alone else SHARED_LOCK}")
        if not alone and any([await _may_have_jobs(plain, applied) for applied in ordered]):
            return False
        for applied in ordered:
            window = applied.window
            made = await plain.fetchval(
                _CREATE, new_id(now), applied.quota.id, applied.subject, window.starts_at, window.ends_at
            )
            if made is not None and alone:
                await fill(plain, applied, made)
        return True


async def _may_have_jobs(plain: Plain, applied: Applied) -> bool:
    """Whether jobs were held in this window while another quota, or none, was in force.

    If not, making the row needs nobody to stand still: whoever holds in it needs the row first.
    """
    quota = applied.quota
    changed_at = await plain.fetchval(_LAST_CHANGE, quota.scope, quota.metric, quota.window)
    if changed_at is not None and changed_at <= applied.window.starts_at - CLOCKS_AGREE_WITHIN:
        return False
    chosen, values = _jobs_of(applied)
    return bool(await plain.fetchval(f"SELECT EXISTS (SELECT FROM jobs j WHERE {chosen})", *values))  # noqa: S608


async def fill(plain: Plain, applied: Applied, usage_id: UUID) -> None:
    """Count a window anew from entries, and let every job in it remember the window.

    The quotas' lock must be held exclusively: nothing is being held or settled.
    """
    chosen, values = _jobs_of(applied)
    window_id = f"${len(values) + 1}::uuid"
    await plain.execute(
        "WITH mine AS MATERIALIZED (SELECT j.id FROM jobs j "  # noqa: S608  locked by id, as everybody does
        f"WHERE {chosen} AND NOT j.quota_usage_ids @> ARRAY[{window_id}] ORDER BY j.id FOR NO KEY UPDATE) "
        f"UPDATE jobs j SET quota_usage_ids = j.quota_usage_ids || {window_id} FROM mine WHERE j.id = mine.id",
        *values,
        usage_id,
        timeout=_COUNTING_SECONDS,
    )
    usage = await count(plain, applied)
    await plain.execute("UPDATE quota_usage SET used = $2, held = $3 WHERE id = $1", usage_id, usage.used, usage.held)


async def count(plain: Plain, applied: Applied) -> Usage:
    """What this window counts, told from jobs and entries alone."""
    chosen, values = _jobs_of(applied)
    row = await plain.fetchrow(
        f"WITH counted AS (SELECT j.id, j.finished_at FROM jobs j WHERE {chosen}) {_FIGURES}",  # noqa: S608
        *values,
        timeout=_COUNTING_SECONDS,
    )
    return usage_of(applied.quota.metric, dict(row or {}))


def usage_of(metric: str, figures: dict[str, Any]) -> Usage:
    """The two figures of a window, out of all that `_FIGURES` counts."""
    match metric:
        case "usd":
            return Usage(figures["used_usd"], figures["held_usd"])
        case "seconds":
            return Usage(figures["used_seconds"], figures["held_seconds"])
        case "jobs":
            return Usage(Decimal(figures["jobs"]), Decimal(0))
        case _:
            return Usage(Decimal(0), Decimal(figures["in_flight"]))


def _jobs_of(applied: Applied) -> tuple[str, list[Any]]:
    """The WHERE clause of the jobs that this window counts, and its values."""
    subject = _SUBJECT[applied.quota.scope]
    if applied.quota.metric == "in_flight":
        return f"{subject} AND j.finished_at IS NULL", [applied.subject]
    window = applied.window
    if window.ends_at is None:
        return subject, [applied.subject]
    return (
        f"{subject} AND j.id >= $2 AND j.id < $3",
        [applied.subject, first_id(window.starts_at), first_id(window.ends_at)],
    )


async def find_newest_job(plain: Plain, applied: Applied) -> UUID | None:
    """The job that was held in this window last."""
    chosen, values = _jobs_of(applied)
    remembers = f"j.quota_usage_ids @> ARRAY[${len(values) + 1}::uuid]"
    found: UUID | None = await plain.fetchval(
        f"SELECT j.id FROM jobs j WHERE {chosen} AND {remembers} ORDER BY j.id DESC LIMIT 1",  # noqa: S608  ours
        *values,
        applied.usage_id,
    )
    return found


async def read_usage(plain: Plain, applied: Applied) -> Usage:
    """What a window counts now, whether it has a row or not. Writes nothing."""
    if applied.usage_id is None:
        return await count(plain, applied)
    row = await plain.fetchrow("SELECT used, held FROM quota_usage WHERE id = $1", applied.usage_id)
    return Usage(row["used"], row["held"]) if row else Usage(Decimal(0), Decimal(0))

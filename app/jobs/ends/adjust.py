"""The charge of a job that has ended is corrected: by finance, or to what fal billed. Nothing else of it changes.

Two steps, so that whoever corrects can look at the job's entries between them and decide under its locks:
`lock_ended_job`, then `adjust_job`, in the same transaction. An adjustment of the same source cannot be booked twice
(UNIQUE (job_id, kind, source)): the second raises asyncpg's UniqueViolationError.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from app.db import Plain
from app.jobs.ends.ending import HELD_COLUMNS, held_of
from app.jobs.reads.reach import NOT_FOUND_DETAIL
from app.ledger.locks import keep_quotas_still
from app.ledger.settles import Extra, Held, Metrics, book_extra, lock_windows
from app.money import ZERO
from app.problems import NotFound, Problem

_WINDOWS: Final = "SELECT quota_usage_ids FROM jobs WHERE id = $1"
_LOCK: Final = f"""
SELECT {HELD_COLUMNS}, j.status, j.finished_at, j.charged_usd FROM jobs j WHERE j.id = $1 FOR UPDATE
"""  # noqa: S608  ours
_CHARGE: Final = """
UPDATE jobs SET charged_usd = charged_usd + $2, version = version + 1 WHERE id = $1 RETURNING charged_usd
"""


class JobNotEnded(Problem):
    """The job has not ended, so nothing was charged yet that could be corrected.

    Wait for its end, cancel it, or, when it is `unconfirmed`, have an admin resolve it: that is where its charge is
    decided.
    """

    status = 409


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended, locked with the windows it was held in until the transaction ends."""

    held: Held
    status: str
    charged_usd: Decimal
    windows: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """What is added to a job's charge: `usd` and `seconds` may be negative.

    `source` names what it comes from, once for each job; `note` says why, `by` who asked for it.
    """

    source: str
    usd: Decimal
    seconds: Decimal = ZERO
    fal_units: Decimal | None = None
    note: str
    by: str


async def lock_ended_job(plain: Plain, job_id: UUID) -> EndedJob:
    """Keep the job, its charge and its windows as they are until the transaction ends.

    Order of locks: the quotas' lock (shared), windows by id, the job. Raises NotFound or JobNotEnded.
    """
    await keep_quotas_still(plain)
    usage_ids = await plain.fetchval(_WINDOWS, job_id)
    if usage_ids is None:
        raise NotFound(NOT_FOUND_DETAIL)
    windows = await lock_windows(plain, set(usage_ids))
    row = await plain.fetchrow(_LOCK, job_id)
    if row is None or row["finished_at"] is None:
        raise JobNotEnded("Its charge is decided when it ends; look at it again then.")
    return EndedJob(held_of(row), row["status"], row["charged_usd"], windows)


async def adjust_job(plain: Plain, job: EndedJob, adjustment: Adjustment, *, now: datetime, zone: ZoneInfo) -> Decimal:
    """Book it, and let the job's charge and version follow; what is charged now."""
    extra = Extra(
        kind="adjustment",
        source=adjustment.source,
        usd=adjustment.usd,
        seconds=adjustment.seconds,
        fal_units=adjustment.fal_units,
        note=adjustment.note,
        by=adjustment.by,
    )
    await book_extra(plain, job.held, extra, windows=job.windows, now=now, zone=zone)
    charged_usd: Decimal = await plain.fetchval(_CHARGE, job.held.job_id, adjustment.usd)
    return charged_usd

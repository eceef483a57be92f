"""What fal billed, kept: a period of it becomes what was read, in one transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.db import Database, Lock
from app.fal import Trouble
from app.reports.fal_bill.reading import COLUMNS, Bill
from app.reports.fal_bill.runs import finish_run

_LONGEST_SECONDS: Final = 300
_FIRST: Final = (
    f"SET LOCAL statement_timeout = '{_LONGEST_SECONDS}s'; SET LOCAL lock_timeout = '{_LONGEST_SECONDS}s'; "
    f"SELECT pg_advisory_xact_lock({Lock.RECONCILE})"
)
# Whoever began to read later knows more: what it kept stays.
_IS_OLD: Final = """
SELECT EXISTS (
    SELECT FROM reconciliations later JOIN reconciliations mine ON mine.id = $1
    WHERE later.figures IS NOT NULL AND later.started_at > mine.started_at AND later.until > $2 AND later.since < $3
)
"""
_MAKE: Final = """
CREATE TEMP TABLE bill_lines (
    fal_request_id text, billed_at timestamptz, endpoint text, units numeric(20,9), unit_price_usd numeric(20,9),
    usd numeric(20,9), paid_with text
) ON COMMIT DROP
"""
_NUMBER: Final = """
CREATE TEMP TABLE bill_read ON COMMIT DROP AS
SELECT *, (row_number() OVER (
    PARTITION BY fal_request_id, billed_at ORDER BY usd, endpoint, units, unit_price_usd, paid_with
))::integer AS n FROM bill_lines
"""
_WITHDRAW: Final = """
WITH gone AS (
    DELETE FROM fal_bills b WHERE b.billed_at >= $1 AND b.billed_at < $2 AND NOT EXISTS (
        SELECT FROM bill_read r
        WHERE r.fal_request_id = b.fal_request_id AND r.billed_at = b.billed_at AND r.n = b.n
          AND r.endpoint = b.endpoint AND r.usd = b.usd AND r.units IS NOT DISTINCT FROM b.units
          AND r.unit_price_usd IS NOT DISTINCT FROM b.unit_price_usd AND r.paid_with IS NOT DISTINCT FROM b.paid_with
    ) RETURNING 1
) SELECT count(*) FROM gone
"""
_ADD: Final = """
WITH added AS (
    INSERT INTO fal_bills (fal_request_id, billed_at, n, endpoint, units, unit_price_usd, usd, paid_with, read_at)
    SELECT fal_request_id, billed_at, n, endpoint, units, unit_price_usd, usd, paid_with, $1 FROM bill_read
    ON CONFLICT DO NOTHING RETURNING 1
) SELECT count(*) FROM added
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """How many events were read, how many of them are new, and how many that were kept are no longer told."""

    read: int
    added: int
    withdrawn: int

    @property
    def figures(self) -> dict[str, int]:
        """As they are remembered."""
        return {"read": self.read, "added": self.added, "withdrawn": self.withdrawn}


async def keep_bill(
    db: Database, bill: Bill, since: datetime, until: datetime, *, run_id: UUID, now: datetime
) -> Kept | Trouble:
    """Make what is kept of [since, until) what was read of it, and remember that this run has. Commits.

    Trouble, and nothing was changed: a run that began later has kept some of it.
    """
    bill.file.seek(0)
    async with db.begin_plain(first=_FIRST) as plain:
        if await plain.fetchval(_IS_OLD, run_id, since, until):
            return Trouble("a reconciliation that began later has read fal's bill meanwhile")
        await plain.execute(_MAKE)
        await plain.copy_to_table(
            "bill_lines", source=bill.file, columns=COLUMNS, format="csv", timeout=_LONGEST_SECONDS
        )
        await plain.execute(f"{_NUMBER}; ANALYZE bill_read", timeout=_LONGEST_SECONDS)
        withdrawn = await plain.fetchval(_WITHDRAW, since, until, timeout=_LONGEST_SECONDS)
        added = await plain.fetchval(_ADD, now, timeout=_LONGEST_SECONDS)
        kept = Kept(bill.events, added, withdrawn)
        await finish_run(plain, run_id, {"events": kept.figures}, now=now)
    return kept

"""Jobs that waited in `queued` longer than QUEUE_SECONDS, or than their caller would: they fail, free."""

import asyncio
from datetime import timedelta
from typing import Final

from app.ids import first_id
from app.jobs.ends import causes
from app.jobs.ends.ending import Endings
from app.jobs.states import QUEUED
from app.wiring import Wiring

# A job's id tells when it was made: so the oldest are found by jobs_unfinished_idx.
_OVERDUE: Final = """
SELECT id FROM jobs WHERE finished_at IS NULL AND id < $1 AND status = 'queued' AND queued_at < $2 ORDER BY id LIMIT 100
"""
# By jobs_start_idx, which has those alone that wait and whose caller gave them a start deadline.
_NOT_STARTED: Final = "SELECT id FROM jobs WHERE status = 'queued' AND start_by < $1 ORDER BY start_by LIMIT 100"


async def end_overdue(wiring: Wiring, endings: Endings) -> int:
    """End them; returns how many."""
    now = wiring.clock()
    cutoff = now - timedelta(seconds=wiring.settings.queue_seconds)
    async with wiring.db.plain() as plain:
        rows = await plain.fetch(_OVERDUE, first_id(cutoff), cutoff)
        not_started = await plain.fetch(_NOT_STARTED, now)
    due = {row["id"]: causes.overdue(row["id"]) for row in rows}
    due |= {row["id"]: causes.not_started(row["id"], was=QUEUED, attempt_id=None) for row in not_started}
    await asyncio.gather(*map(endings.end, due.values()))
    return len(due)

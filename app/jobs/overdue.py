"""Jobs that waited in `queued` longer than QUEUE_SECONDS: they fail, free."""

import asyncio
from datetime import timedelta
from typing import Final

from app.ids import first_id
from app.jobs import causes
from app.jobs.ending import Endings
from app.wiring import Wiring

# A job's id tells when it was made: so the oldest are found by jobs_unfinished_idx.
_OVERDUE: Final = """
SELECT id FROM jobs WHERE finished_at IS NULL AND id < $1 AND status = 'queued' AND queued_at < $2 ORDER BY id LIMIT 100
"""


async def end_overdue(wiring: Wiring, endings: Endings) -> int:
    """End them; returns how many."""
    cutoff = wiring.clock() - timedelta(seconds=wiring.settings.queue_seconds)
    async with wiring.db.plain() as plain:
        rows = await plain.fetch(_OVERDUE, first_id(cutoff), cutoff)
    await asyncio.gather(*(endings.end(causes.overdue(row["id"])) for row in rows))
    return len(rows)

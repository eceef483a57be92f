"""What fal's webhook told of a job: it ends the job where fal's result cannot be read any more."""

from datetime import datetime, timedelta
from typing import Final

from app.db import Database
from app.fal import Succeeded, told_outcome
from app.jobs.at_fal.claims import Followed
from app.jobs.ends import causes
from app.jobs.ends.ending import Ending
from app.jobs.unknown.gone import GONE_AGAIN_AFTER

_RESULTS_LIVE: Final = timedelta(hours=1)  # after completion (FAL.md 1.5)
_TOLD: Final = "SELECT body::text, received_at FROM fal_webhooks WHERE attempt_id = $1 AND fal_request_id = $2"


async def find_told_ending(
    db: Database, job: Followed, *, is_gone: bool, old_before: datetime, now: datetime
) -> Ending | None:
    """The end of this job by its webhook, once nothing better is to be had; None: go on asking fal.

    `is_gone`: fal says that it does not know the request, which counts when it has said so for a minute or the job is
    `unconfirmed`. Otherwise fal says nothing (it is away, or our account is locked), which counts once the result
    would be gone. `old_before` as in `causes.failed`. What was billed stays unsaid.
    """
    if not job.is_told or job.ref is None:
        return None
    gone_for_good = job.gone_at is not None and now - job.gone_at >= GONE_AGAIN_AFTER
    if is_gone and not (gone_for_good or job.status == "unconfirmed"):
        return None
    async with db.plain() as plain:
        row = await plain.fetchrow(_TOLD, job.attempt_id, job.ref.fal_request_id)
    if row is None or not (is_gone or now - row["received_at"] >= _RESULTS_LIVE):
        return None
    outcome = told_outcome(row["body"])
    if outcome is None:
        return None
    if isinstance(outcome, Succeeded):
        return causes.succeeded(job, outcome)
    return causes.failed(job, outcome, old_before=old_before)

"""The one place where a job ends: its status, its money and what is erased with it, in one transaction."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.db import CommitUnknown, Plain
from app.deliveries.outbox import sql_store_deliveries, store_deliveries
from app.ids import show
from app.jobs.ends.fal_webhook import FAL_JSON
from app.jobs.group import Group
from app.jobs.reads.wire import JOB_JSON
from app.ledger.entries import SQL_CHARGES
from app.ledger.locks import keep_quotas_still
from app.ledger.settles import Charge, Held, lock_windows, resolve_holds
from app.outputs.rows import keep_outputs
from app.wiring import Wiring

log = logging.getLogger("falgate.end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ends, if it still stands where whoever says so believes: in one of `was`, on this attempt.

    `charge` says what becomes of its hold; `is_cancel` that its caller asked for this end; `fal_reply` (`replies`) and
    `inference_seconds` are what callers of fal's own protocol are told beside it.
    """

    job_id: UUID
    was: frozenset[str]
    attempt_id: UUID | None
    status: str
    charge: Callable[[Held], Charge]
    output: str | None = None
    error: str | None = None
    is_cancel: bool = False
    fal_reply: str | None = None
    inference_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job's hold, and whether its caller gets a webhook."""

    charge: Charge
    has_delivery: bool


HELD_COLUMNS: Final = """
j.id, j.quota_usage_ids, j.quoted_usd, j.seconds, j.price_id, j.user_id, j.team_id, j.key_id, j.model, j.end_user,
j.tags::text AS tags"""
"""What `held_of` reads of a row `j` of jobs."""

FAL_KEEPS_DAYS: Final = 7
"""At least, unless the account says otherwise (FAL.md 5)."""

_WINDOWS: Final = "SELECT DISTINCT unnest(quota_usage_ids) AS id FROM jobs WHERE id = ANY($1)"
_END: Final = f"""
WITH mine AS MATERIALIZED (
    SELECT j.id FROM jobs j WHERE j.id = ANY($1) ORDER BY j.id FOR UPDATE
)
UPDATE jobs j SET status = e.status, output = e.output::json, error = e.error::json, finished_at = $7,
       next_check_at = NULL, held_usd = 0, charged_usd = 0, version = j.version + 1, queue_position = NULL,
       gone_at = NULL, estimated_start_at = NULL, fal_reply = e.fal_reply::json,
       inference_seconds = e.inference_seconds,
       expires_at = CASE WHEN e.status = 'succeeded' THEN $7::timestamptz + make_interval(days => $11) END,
       cancel_requested_at = CASE WHEN e.is_cancel THEN coalesce(j.cancel_requested_at, $7)
                                  ELSE j.cancel_requested_at END
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $8::bool[], $9::text[],
            $10::float8[]) AS e (id, was, attempt_id, status, output, error, is_cancel, fal_reply, inference_seconds)
JOIN mine ON mine.id = e.id
WHERE j.id = e.id AND j.finished_at IS NULL AND j.status = ANY (string_to_array(e.was, ' '))
  AND j.attempt_id IS NOT DISTINCT FROM e.attempt_id
RETURNING {HELD_COLUMNS}, j.webhook_url
"""  # noqa: S608  ours
# Read after the entries are written, so that what was booked beside the hold before the end is in it.
_CHARGED: Final = f"""
UPDATE jobs j SET charged_usd = s.usd FROM (
    SELECT e.job_id, sum(e.amount_usd) AS usd FROM entries e
    WHERE e.job_id = ANY($1) AND {SQL_CHARGES} GROUP BY e.job_id
) s WHERE j.id = s.job_id
"""  # noqa: S608  ours
_TELL: Final = sql_store_deliveries(JOB_JSON, fal_json=FAL_JSON)
_FORGET: Final = """
WITH input AS (DELETE FROM payloads WHERE job_id = ANY($1)) DELETE FROM fal_webhooks WHERE job_id = ANY($1)
"""


class Endings:
    """Ends jobs, those that end at the same time in one transaction."""

    def __init__(
        self, wiring: Wiring, announce: Callable[[Sequence[UUID]], None], *, wake_sender: Callable[[], None]
    ) -> None:
        self._wiring = wiring
        self._announce = announce
        self._wake_sender = wake_sender
        self._group = Group[Ending, bool](self._run, sizes=wiring.metrics.group_size.labels("end"))

    async def end(self, ending: Ending) -> bool:
        """End the job and resolve its hold, once committed; False: it stood elsewhere, and nothing was changed."""
        return await self._group(ending)

    async def _run(self, batch: Sequence[Ending]) -> Sequence[bool | Exception]:
        first = {ending.job_id: ending for ending in reversed(batch)}
        now = self._wiring.clock()
        try:
            async with self._wiring.db.begin_plain() as plain:
                ended = await end_jobs(plain, list(first.values()), wiring=self._wiring, now=now)
        except CommitUnknown:
            self._announce(list(first))  # those who wait look for themselves
            raise
        self._announce(list(ended))
        if any(one.has_delivery for one in ended.values()):
            self._wake_sender()
        for job_id, one in ended.items():
            if one.charge.mark:
                self._wiring.metrics.settles_marked.labels(one.charge.mark).inc()
                about = {"job_id": show("job", job_id)}
                log.warning("job_%s: %s; look at fal's bill", job_id.hex, one.charge.note, extra=about)
        return [first[ending.job_id] is ending and ending.job_id in ended for ending in batch]


async def end_jobs(plain: Plain, endings: Sequence[Ending], *, wiring: Wiring, now: datetime) -> dict[UUID, Ended]:
    """End each of these jobs that still stands where its ending says; returns those.

    Order of locks: the quotas' lock (shared), windows by id, jobs by id, entries. Where a delivery was written, wake
    the sender after the commit.
    """
    ids = [ending.job_id for ending in endings]
    await keep_quotas_still(plain)
    windows = await lock_windows(plain, {row["id"] for row in await plain.fetch(_WINDOWS, ids)})
    rows = await plain.fetch(
        _END,
        ids,
        [" ".join(sorted(ending.was)) for ending in endings],
        [ending.attempt_id for ending in endings],
        [ending.status for ending in endings],
        [ending.output for ending in endings],
        [ending.error for ending in endings],
        now,
        [ending.is_cancel for ending in endings],
        [ending.fal_reply for ending in endings],
        [ending.inference_seconds for ending in endings],
        min(FAL_KEEPS_DAYS, wiring.settings.payload_days),
    )
    by_id = {ending.job_id: ending for ending in endings}
    resolved = [(held, (end := by_id[held.job_id]).charge(held), end.status) for held in map(held_of, rows)]
    if resolved:
        ended = [held.job_id for held, _, _ in resolved]
        await resolve_holds(plain, resolved, windows=windows, now=now, zone=wiring.settings.zone)
        await plain.execute(_CHARGED, ended)
        await plain.execute(_FORGET, ended)
        if wiring.output_store is not None:
            await keep_outputs(plain, ended)
    urls = {row["id"]: row["webhook_url"] for row in rows if row["webhook_url"] is not None}
    if urls:
        await store_deliveries(plain, _TELL, urls, now=now)
    return {held.job_id: Ended(charge, held.job_id in urls) for held, charge, _ in resolved}


def held_of(row: Any) -> Held:
    """A job's row as the hold it was placed with."""
    return Held(
        job_id=row["id"],
        quota_usage_ids=row["quota_usage_ids"],
        usd=row["quoted_usd"],
        seconds=row["seconds"],
        price_id=row["price_id"],
        user_id=row["user_id"],
        team_id=row["team_id"],
        key_id=row["key_id"],
        model=row["model"],
        end_user=row["end_user"],
        tags=row["tags"],
    )

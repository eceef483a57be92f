"""Stray fal requests: accepted by fal, but no longer their job's. They are cancelled, and a bill is booked as overage."""

import logging
from typing import Final
from uuid import UUID

import asyncpg

from app.db import Plain
from app.fal import Completed, Failed, RequestRef, Succeeded
from app.jobs.charges import charge_failure, charge_success
from app.jobs.ending import held_of
from app.ledger.holds import SHARED_LOCK
from app.ledger.settles import Charge, Extra, Held, book_extra, lock_windows
from app.wiring import Wiring

log = logging.getLogger("falgate.strays")

_CLAIM: Final = """
UPDATE attempts SET stray_check_at = now() + make_interval(secs => $1)
WHERE id IN (SELECT id FROM attempts WHERE stray_check_at <= now() ORDER BY stray_check_at LIMIT 20
             FOR UPDATE SKIP LOCKED)
RETURNING id, job_id, fal_request_id, status_path, result_path, cancel_path
"""
_DONE: Final = "UPDATE attempts SET stray_check_at = NULL WHERE id = $1"
_HELD: Final = f"""
SELECT j.id, j.quota_usage_ids, j.quoted_usd, j.seconds, j.price_id, j.user_id, j.team_id, j.key_id, j.model,
       j.end_user, j.tags::text AS tags, {SHARED_LOCK} IS NULL AS locked
FROM jobs j WHERE j.id = $1
"""  # noqa: S608
_CHARGED: Final = """
UPDATE jobs SET charged_usd = charged_usd + $2, version = version + 1 WHERE id = $1 AND finished_at IS NOT NULL
"""


async def follow_strays(wiring: Wiring) -> int:
    """Check each stray that is due; returns how many."""
    async with wiring.db.begin_plain(durable=False) as plain:
        rows = await plain.fetch(_CLAIM, max(wiring.settings.poll_seconds, 1.0))
    for row in rows:
        ref = RequestRef(row["fal_request_id"], row["status_path"], row["result_path"], row["cancel_path"])
        await _follow(wiring, row["id"], row["job_id"], ref)
    return len(rows)


async def _follow(wiring: Wiring, attempt_id: UUID, job_id: UUID, ref: RequestRef) -> None:
    await wiring.fal.cancel(ref)
    completed = await wiring.fal.status(ref)
    if not isinstance(completed, Completed):
        return
    result = await wiring.fal.result(ref, completed)
    if isinstance(result, Succeeded | Failed):
        await _book(wiring, attempt_id, job_id, ref.fal_request_id, result)


async def _book(
    wiring: Wiring, attempt_id: UUID, job_id: UUID, fal_request_id: str, result: Succeeded | Failed
) -> None:
    charging = charge_success(result.billable) if isinstance(result, Succeeded) else charge_failure(result)
    try:
        async with wiring.db.begin_plain() as plain:
            await plain.execute(_DONE, attempt_id)
            held = held_of(await plain.fetchrow(_HELD, job_id))
            charge = charging(held)
            if charge.usd:
                await _write_overage(plain, held, charge, fal_request_id, wiring=wiring)
    except asyncpg.UniqueViolationError:
        log.info("the overage of %s was booked before", fal_request_id)
        return
    if charge.usd:
        log.warning("job_%s: %s USD overage for a stray fal request", job_id.hex, charge.usd)


async def _write_overage(plain: Plain, held: Held, charge: Charge, fal_request_id: str, *, wiring: Wiring) -> None:
    windows = await lock_windows(plain, set(held.quota_usage_ids))
    extra = Extra(
        kind="overage",
        source=fal_request_id,
        usd=charge.usd,
        seconds=held.seconds,
        fal_units=charge.fal_units,
        note="a fal request that was not the job's current one",
    )
    await book_extra(plain, held, extra, windows=windows, now=wiring.clock(), zone=wiring.settings.zone)
    await plain.execute(_CHARGED, held.job_id, charge.usd)

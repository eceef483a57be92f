"""Stray fal requests: accepted, but no longer their job's. They are cancelled, and a bill is booked as overage."""

import logging
from typing import Any, Final
from uuid import UUID

import asyncpg

from app import logs
from app.db import Plain
from app.fal import Completed, Failed, RequestRef, ResultOutcome, StatusOutcome, Succeeded
from app.ids import show
from app.jobs.at_fal.doubts import Doubts
from app.jobs.ends.charges import charge_failure, charge_success
from app.jobs.ends.ending import HELD_COLUMNS, held_of
from app.ledger.locks import keep_quotas_still
from app.ledger.settles import Charge, Extra, Held, book_extra, lock_windows
from app.loop import Loop
from app.wiring import Wiring

log = logging.getLogger("falgate.strays")

_LONGEST_INTERVAL_SECONDS: Final = 60
_RESULTS_LIVE_SECONDS: Final = 3600
_AT_ONCE: Final = 10

# The older it is, the more seldom fal is asked about it.
_CLAIM: Final = """
UPDATE attempts SET stray_check_at = now() + make_interval(
    secs => greatest($2, least($3, extract(epoch FROM now() - sent_at) / 10)))
WHERE id IN (SELECT id FROM attempts WHERE stray_check_at <= now() ORDER BY stray_check_at LIMIT $1
             FOR UPDATE SKIP LOCKED)
RETURNING id, job_id, fal_request_id, status_path, result_path, cancel_path,
          extract(epoch FROM now() - greatest(sent_at, (SELECT j.finished_at FROM jobs j WHERE j.id = job_id)))::float8
              AS age_seconds
"""
_DONE: Final = "UPDATE attempts SET stray_check_at = NULL WHERE id = $1 AND stray_check_at IS NOT NULL RETURNING id"
_HELD: Final = f"SELECT {HELD_COLUMNS} FROM jobs j WHERE j.id = $1"  # noqa: S608  ours
_LOCK_JOB: Final = "SELECT FROM jobs WHERE id = $1 FOR UPDATE"  # an end of the job waits, or has been
_CHARGED: Final = """
UPDATE jobs SET charged_usd = charged_usd + $2, version = version + 1 WHERE id = $1 AND finished_at IS NOT NULL
"""


class Strays:
    """One a process; replicas share the work through the rows."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._following: set[UUID] = set()
        self._doubts = Doubts()
        settings = wiring.settings
        self._give_up_seconds = settings.start_seconds + settings.job_deadline_seconds + _RESULTS_LIVE_SECONDS
        self.loop = Loop("strays", self._turn, places=_AT_ONCE, rest_seconds=1.0)

    async def _turn(self, free: int) -> int:
        shortest = max(self._wiring.settings.poll_seconds, 1.0)
        async with self._wiring.db.begin_plain(durable=False) as plain:
            rows = await plain.fetch(_CLAIM, free, shortest, max(shortest, _LONGEST_INTERVAL_SECONDS))
        for row in rows:
            if row["id"] not in self._following:
                self._following.add(row["id"])
                self.loop.start(self._follow(row))
        return len(rows)

    async def _follow(self, row: Any) -> None:
        logs.job_id.set(show("job", row["job_id"]))
        try:
            ref = RequestRef(row["fal_request_id"], row["status_path"], row["result_path"], row["cancel_path"])
            result = await self._ask(ref)
            if isinstance(result, Failed) and self._doubts.wait_seconds(row["id"], result):
                return
            if isinstance(result, Succeeded | Failed):
                await _book(self._wiring, row["id"], row["job_id"], ref.fal_request_id, result)
            elif row["age_seconds"] > self._give_up_seconds:
                log.warning("fal does not tell what became of the stray fal request %s", ref.fal_request_id)
                async with self._wiring.db.begin_plain() as plain:
                    await plain.execute(_DONE, row["id"])
        finally:
            self._following.discard(row["id"])

    async def _ask(self, ref: RequestRef) -> ResultOutcome | StatusOutcome:
        fal, saw = self._wiring.fal, self._wiring.metrics.saw_fal
        saw("cancel", await fal.cancel(ref))
        status = saw("status", await fal.status(ref))
        return saw("result", await fal.result(ref, status)) if isinstance(status, Completed) else status


async def _book(
    wiring: Wiring, attempt_id: UUID, job_id: UUID, fal_request_id: str, result: Succeeded | Failed
) -> None:
    charging = charge_success(result.billable) if isinstance(result, Succeeded) else charge_failure(result)
    try:
        async with wiring.db.begin_plain() as plain:
            if await plain.fetchval(_DONE, attempt_id) is None:
                return
            await keep_quotas_still(plain)
            held = held_of(await plain.fetchrow(_HELD, job_id))
            charge = charging(held)
            if charge.usd:
                await _write_overage(plain, held, charge, fal_request_id, wiring=wiring)
    except asyncpg.UniqueViolationError:
        log.info("the overage of %s was booked before", fal_request_id)
        async with wiring.db.begin_plain() as plain:
            await plain.execute(_DONE, attempt_id)
        return
    if charge.usd:
        log.warning("job_%s: %s USD overage for a stray fal request", job_id.hex, charge.usd)


async def _write_overage(plain: Plain, held: Held, charge: Charge, fal_request_id: str, *, wiring: Wiring) -> None:
    windows = await lock_windows(plain, set(held.quota_usage_ids))
    await plain.execute(_LOCK_JOB, held.job_id)
    extra = Extra(
        kind="overage",
        source=fal_request_id,
        usd=charge.usd,
        seconds=held.seconds,
        fal_units=charge.fal_units,
        note="; ".join(filter(None, ("a fal request that was not the job's current one", charge.note))),
    )
    await book_extra(plain, held, extra, windows=windows, now=wiring.clock(), zone=wiring.settings.zone)
    await plain.execute(_CHARGED, held.job_id, charge.usd)

"""What fal's bill corrects: an `adjustment` of each job that was charged something else. Only when asked for."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.db import Database, Tx, plain_of
from app.ids import show
from app.jobs.ends.adjust import Adjustment, adjust_job, lock_ended_job
from app.money import ZERO, decimal_text
from app.reports.fal_bill.lists import Adjustable, Correction, read_adjustable, read_corrections
from app.reports.fal_bill.sql import BY_BILL

ACTION: Final = "job.adjusted"


@dataclass(frozen=True, slots=True)
class Adjusted:
    """How many adjustments were booked, and what they come to."""

    entries: int = 0
    usd: Decimal = ZERO

    @property
    def figures(self) -> dict[str, object]:
        """As they are remembered."""
        return {"entries": self.entries, "usd": decimal_text(self.usd)}


async def adjust_period(
    db: Database, since: datetime, until: datetime, *, actor: Actor, now: datetime, zone: ZoneInfo
) -> Adjusted:
    """Let what was charged in [since, until), or billed in it, be what fal billed. Commits, job by job.

    Ended halfway it goes on where it was: each job is compared anew under its own lock, so nothing is booked twice.
    """
    adjustable = await read_adjustable(db, since, until)
    entries, usd = 0, ZERO
    for job_id in adjustable.fal_request_ids:
        booked = await _adjust(db, adjustable, job_id, actor=actor, now=now, zone=zone)
        entries, usd = entries + booked.entries, usd + booked.usd
    return Adjusted(entries, usd)


async def _adjust(
    db: Database, adjustable: Adjustable, job_id: UUID, *, actor: Actor, now: datetime, zone: ZoneInfo
) -> Adjusted:
    async with db.begin() as tx:
        plain = await plain_of(tx)
        job = await lock_ended_job(plain, job_id)
        adjustments = [_adjustment(one, actor) for one in await read_corrections(plain, adjustable, job_id)]
        charged_usd = job.charged_usd
        for adjustment in adjustments:
            charged_usd = await adjust_job(plain, job, adjustment, now=now, zone=zone)
        if adjustments:
            await _log(tx, job_id, job.charged_usd, charged_usd, adjustments, actor=actor, now=now)
    return Adjusted(len(adjustments), sum((one.usd for one in adjustments), ZERO))


def _adjustment(wrong: Correction, actor: Actor) -> Adjustment:
    billed = decimal_text(wrong.fal_usd) if wrong.fal_usd else "nothing"
    charged = decimal_text(wrong.ours_usd) if wrong.ours_usd else "nothing"
    return Adjustment(
        source=f"{BY_BILL}{wrong.fal_request_id} {wrong.corrections + 1}",
        usd=wrong.fal_usd - wrong.ours_usd,
        seconds=_seconds(wrong) - wrong.ours_seconds,
        fal_units=wrong.fal_units,
        note=f"fal billed {billed} for {wrong.fal_request_id}, {charged} was charged",
        by=actor.name,
    )


def _seconds(wrong: Correction) -> Decimal:
    """Seconds follow money: none of what costs nothing, all of what costs something."""
    return (wrong.ours_seconds or wrong.job_seconds) if wrong.fal_usd > ZERO else ZERO


async def _log(
    tx: Tx,
    job_id: UUID,
    before_usd: Decimal,
    after_usd: Decimal,
    adjustments: list[Adjustment],
    *,
    actor: Actor,
    now: datetime,
) -> None:
    await audit_log.write(
        tx,
        actor=actor,
        action=ACTION,
        object_id=show("job", job_id),
        before={"charged_usd": decimal_text(before_usd)},
        after={"charged_usd": decimal_text(after_usd), "note": "; ".join(one.note for one in adjustments)},
        now=now,
    )

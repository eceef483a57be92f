"""One reconciliation: fal's bill read and kept, what it corrects booked if asked for, and the lists told."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.db import Database
from app.fal import Platform, Trouble
from app.money import decimal_text
from app.reports.fal_bill.adjusting import Adjusted, adjust_period
from app.reports.fal_bill.keeping import Kept, keep_bill
from app.reports.fal_bill.lists import Line, Sum, Sums, read_first_lines
from app.reports.fal_bill.reading import PAUSES, new_bill, read_bill
from app.reports.fal_bill.runs import fail_run, finish_run

log = logging.getLogger("falgate.reconcile")

MARGIN: Final = timedelta(days=2)
"""So much more is read at both ends: what is charged at an edge of the period may be billed beyond it."""

SHOWN: Final = 10
"""Lines of each list that a run tells of; `matched` is not told."""

_DIFFERENCES: Final = ("differs", "ours_only", "fal_only")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What came of it: events of fal's, adjustments of ours, and the lists as they are now."""

    kept: Kept
    adjusted: Adjusted
    sums: Sums
    first: list[Line]

    @property
    def agrees(self) -> bool:
        """Whether fal billed what we charged, and nothing else, as far as it can be told yet."""
        return all(not self.sums[name].requests for name in _DIFFERENCES)


async def reconcile(
    db: Database,
    platform: Platform,
    run_id: UUID,
    since: datetime,
    until: datetime,
    *,
    clock: Callable[[], datetime],
    zone: ZoneInfo,
    adjusts: Actor | None = None,
    pauses: Sequence[float] = PAUSES,
) -> Reconciled | Trouble:
    """Carry out a run that has begun (`runs`); Trouble when fal's bill cannot be read: nothing was changed then.

    What differs is adjusted in the name of `adjusts`, where that is given. No connection is held while fal is asked.
    Raises ReportTooLarge.
    """
    read_since, read_until = since - MARGIN, min(until + MARGIN, clock())
    with new_bill() as bill:
        kept = await read_bill(platform, bill, read_since, read_until, pauses=pauses) or await keep_bill(
            db, bill, read_since, read_until, run_id=run_id, now=clock()
        )
    if isinstance(kept, Trouble):
        await fail_run(db, run_id, kept.reason, now=clock())
        return kept
    adjusted = Adjusted()
    if adjusts is not None:
        adjusted = await adjust_period(db, since, until, actor=adjusts, now=clock(), zone=zone)
    sums, first = await read_first_lines(db, since, until, first=SHOWN)
    done = Reconciled(kept, adjusted, sums, first)
    await _remember(db, run_id, done, now=clock())
    return done


async def _remember(db: Database, run_id: UUID, done: Reconciled, *, now: datetime) -> None:
    lists: dict[str, Any] = {name: _figures(each) for name, each in done.sums.items()}
    figures = {"events": done.kept.figures, "adjusted": done.adjusted.figures, "lists": lists}
    async with db.begin_plain() as plain:
        await finish_run(plain, run_id, figures, now=now)


def _figures(each: Sum) -> dict[str, object]:
    return {
        "requests": each.requests,
        "ours_usd": decimal_text(each.ours_usd),
        "fal_usd": decimal_text(each.fal_usd),
        "apart_usd": decimal_text(each.apart_usd),
    }

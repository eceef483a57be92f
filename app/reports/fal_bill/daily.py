"""The gateway's own reconciliation, once a day of all replicas; it reads and compares, and adjusts nothing."""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

from app.fal import Trouble
from app.loop import Loop
from app.money import ZERO, decimal_text
from app.reports.fal_bill.run import Reconciled, reconcile
from app.reports.fal_bill.runs import USUAL_PERIOD, begin_daily_run
from app.wiring import Wiring

log = logging.getLogger("falgate.reconcile")

BY: Final = "daily"
_LOOK_SECONDS: Final = 60.0
_STOP_WITHIN_SECONDS: Final = 0.5


class DailyReconciling:
    """One a process; its loop looks whether a day is over, and there is none without FAL_ADMIN_KEY."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self.loop = Loop("reconciling", self._turn, places=1, rest_seconds=_LOOK_SECONDS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on, each day."""
        if self._wiring.platform.reads_bill:
            self._task = asyncio.create_task(self.loop.run())

    async def stop(self) -> None:
        """What is under way is given up: nothing of it is half kept, and it is done anew."""
        await self.loop.stop(within_seconds=_STOP_WITHIN_SECONDS)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _turn(self, _free: int) -> int:
        now = self._wiring.clock()
        run_id = await begin_daily_run(self._wiring.db, by=BY, now=now)
        if run_id is not None:
            self.loop.start(self._run(run_id, now))
        return 0

    async def _run(self, run_id: UUID, until: datetime) -> None:
        wiring = self._wiring
        done = await reconcile(
            wiring.db,
            wiring.platform,
            run_id,
            until - USUAL_PERIOD,
            until,
            clock=wiring.clock,
            zone=wiring.settings.zone,
        )
        if isinstance(done, Trouble):
            log.warning("fal's bill cannot be read (%s); it is tried again later", done.reason)
        elif not done.agrees:
            log.warning("fal's bill is not what was charged: %s; look at `falgate reconcile`", _words(done))


def _words(done: Reconciled) -> str:
    differs, ours, fal = (done.sums[name] for name in ("differs", "ours_only", "fal_only"))
    told = (
        (differs, f"{differs.requests} requests differ by {decimal_text(differs.apart_usd)} USD"),
        (ours, f"{decimal_text(ours.ours_usd)} USD were charged for {ours.requests} that fal did not bill"),
        (fal, f"{decimal_text(fal.fal_usd or ZERO)} USD were billed for {fal.requests} that are not ours"),
    )
    return ", ".join(text for each, text in told if each.requests)

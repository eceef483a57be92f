"""What the jobs' routes and loops share in one process; made by the application, asked for by routes."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends
from starlette.requests import Request

from app.accounts.last_used import LastUsed
from app.deliveries.sender import Sender
from app.jobs.alerts import Alerts
from app.jobs.at_fal.balance import BalanceWatch
from app.jobs.at_fal.dispatch import Dispatcher, lease_seconds
from app.jobs.at_fal.receive import Receiver
from app.jobs.at_fal.standing import Standing
from app.jobs.at_fal.strays import Strays
from app.jobs.at_fal.track import Tracker
from app.jobs.at_fal.upstream import Upstream
from app.jobs.ends.ended import fold_ended
from app.jobs.ends.ending import Endings
from app.jobs.ends.overdue import end_overdue
from app.jobs.forgetting.fal_copies import FalCopies
from app.jobs.forgetting.retention import Forgetting
from app.jobs.reads.glance import Glances
from app.jobs.reads.hub import Hub
from app.jobs.reads.links import Links
from app.jobs.reads.log_reading import LogReader
from app.jobs.reads.read import Reader
from app.jobs.reads.seats import Seats
from app.jobs.submits.submit import Submits
from app.jobs.unknown.lost import LostAnswers
from app.ledger.older_release import count_older_ends
from app.ledger.refusals import RefusalCounts
from app.loop import Loop
from app.outputs.archive import Archive
from app.wiring import Wiring

log = logging.getLogger("falgate.jobs")

_STOP_WITHIN_SECONDS: Final = 6.5  # from the signal: docker kills after 10
_STOP_AT_LEAST_SECONDS: Final = 1.0
_LEAVE_WITHIN_SECONDS: Final = 0.5
_TELL_WITHIN_SECONDS: Final = 0.5
_WRITE_WITHIN_SECONDS: Final = 1.0


class Rooms:
    """One of each; `start` sets the loops going, `stop` ends them."""

    def __init__(self, wiring: Wiring, last_used: LastUsed) -> None:
        self.wiring = wiring
        self.last_used = last_used
        self.refusals = RefusalCounts(wiring.clock)
        self.hub = Hub(wiring.db)
        self.log_reader = LogReader(wiring.db)
        self.glances = Glances(wiring.db, last_used)
        self.links = Links(wiring.tokens, public_url=wiring.settings.public_url)
        self.reader = Reader(wiring.db, last_used, self.links)
        self.archive = Archive(wiring)
        self.sender = Sender(wiring)
        self.endings = Endings(wiring, self._ended, wake_sender=self.sender.loop.wake)
        self.alerts = Alerts(wiring, wake_sender=self.sender.loop.wake)
        self.upstream = Upstream(wiring.db, lease_seconds=lease_seconds(wiring))
        self.dispatcher = Dispatcher(wiring, self.hub, self.endings, self.upstream)
        self.submits = Submits(wiring, last_used, self.refusals, wake=self.dispatcher.wake)
        self.tracker = Tracker(wiring, self.hub, self.endings, self.upstream)
        self.strays = Strays(wiring)
        self.receiver = Receiver(
            wiring, self.hub.announce, wake_tracker=self.tracker.loop.wake, wake_strays=self.strays.loop.wake
        )
        self.standing = Standing(wiring, self.hub)
        self.balance = BalanceWatch(wiring)
        self.lost = LostAnswers(wiring, self.hub, self.endings)
        self.seats = Seats()
        self.fal_copies = FalCopies(wiring)
        self.forgetting = Forgetting(wiring, self.fal_copies)
        self.stopping = asyncio.Event()
        self._stop_by = 0.0
        self._housekeeping = Loop("housekeeping", self._keep_house, places=1, rest_seconds=1.0)
        self._folding = Loop("folding", self._fold, places=1, rest_seconds=600.0)
        self._tasks: list[asyncio.Task[None]] = []

    def _ended(self, job_ids: Sequence[UUID]) -> None:
        self.hub.announce(job_ids)
        if self.wiring.settings.fal_concurrency is not None:
            self.dispatcher.wake()  # a slot is free

    async def _keep_house(self, _free: int) -> int:
        await self.upstream.look()
        await self.last_used.flush(self.wiring.db, now=self.wiring.clock())
        await self.refusals.flush(self.wiring.db)
        return await end_overdue(self.wiring, self.endings)

    async def _fold(self, _free: int) -> int:
        await fold_ended(self.wiring.db, now=self.wiring.clock())
        await count_older_ends(self.wiring.db, zone=self.wiring.settings.zone, now=self.wiring.clock())
        return 0

    @property
    def _loops(self) -> list[Loop]:
        telling = [self.sender.loop, self.sender.slow_loop, self.alerts.loop]
        helping = [self.standing.loop, self._housekeeping, self._folding, self.balance.loop]
        keeping = [self.archive.loop, self.forgetting.loop, self.fal_copies.loop]
        following = [self.dispatcher.loop, self.tracker.loop, self.lost.loop, self.strays.loop]
        return [*following, *telling, *helping, *keeping]

    def start(self) -> None:
        """Start listening, dispatching, tracking and keeping house."""
        running = [self.hub.listen_for_ever(), self.hub.tell_for_ever(), *(loop.run() for loop in self._loops)]
        self._tasks = [asyncio.create_task(task) for task in running]

    def release_waiting(self) -> None:
        """The server is about to end: claim nothing more, and let everybody go who waits for a job or follows one."""
        if not self.stopping.is_set():
            self._stop_by = time.monotonic() + _STOP_WITHIN_SECONDS
        self.stopping.set()
        for loop in self._loops:
            loop.leave()
        self.hub.wake_all()

    async def stop(self) -> None:
        """Claim nothing more, let what is under way end for a few seconds, then stop."""
        self.release_waiting()
        seconds = max(_STOP_AT_LEAST_SECONDS, self._stop_by - time.monotonic())
        await asyncio.gather(*(loop.stop(within_seconds=seconds) for loop in self._loops))
        with suppress(TimeoutError):
            await asyncio.wait_for(self.hub.tell(), _TELL_WITHIN_SECONDS)
        with suppress(Exception):
            await asyncio.wait_for(self.refusals.flush(self.wiring.db), _WRITE_WITHIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LEAVE_WITHIN_SECONDS)


def rooms_of(request: Request) -> Rooms:
    """What this application's jobs live in."""
    rooms: Rooms = request.app.state.rooms
    return rooms


InRooms = Annotated[Rooms, Depends(rooms_of)]
"""The parameter by which a FastAPI route asks for it."""

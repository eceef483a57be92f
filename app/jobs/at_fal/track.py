"""Following jobs at fal: one check a job at a time, on the job's own schedule, whoever is waiting for it."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app import logs
from app.db import is_database_away
from app.fal import (
    CancelDone,
    CancelRequested,
    Completed,
    Failed,
    Gone,
    InProgress,
    NotYet,
    Queued,
    RequestRef,
    Succeeded,
    Trouble,
    UnknownStatus,
)
from app.ids import show
from app.jobs.at_fal.claims import Followed, claim_followed
from app.jobs.at_fal.doubts import Doubts
from app.jobs.at_fal.log_keeping import LogKeeper
from app.jobs.at_fal.moves import Moves
from app.jobs.at_fal.told import find_told_ending
from app.jobs.at_fal.upstream import Upstream
from app.jobs.ends import causes
from app.jobs.ends.ending import Endings
from app.jobs.reads.hub import Hub
from app.jobs.states import AT_FAL
from app.jobs.unknown.gone import LIST_EVERY_CHECKS, Forgotten
from app.jobs.unknown.recover import ask_again
from app.loop import Loop
from app.wiring import Wiring

log = logging.getLogger("falgate.track")

CHECKS_AT_ONCE: Final = 100
_LONGEST_TROUBLE_SECONDS: Final = 60.0
_LEASES_EVERY_SECONDS: Final = 1.0
_CANCEL_TAKEN: Final = ("cancel_asked", "deadline")  # outcomes of attempts whose cancel fal has taken: it asks no more


class Tracker:
    """One a process. A check reads fal's status, and the result once a status body said COMPLETED."""

    def __init__(self, wiring: Wiring, hub: Hub, endings: Endings, upstream: Upstream) -> None:
        self._wiring = wiring
        self._hub = hub
        self._endings = endings
        self._upstream = upstream
        self._moves = Moves(wiring)
        self._doubts = Doubts()
        self._log = LogKeeper(wiring, hub)
        self._forgotten = Forgotten(wiring, hub, endings)
        self._checking: set[UUID] = set()
        self._again: dict[UUID, Followed] = {}
        self._troubles = 0
        self._leases_looked_at = 0.0
        self.loop = Loop("track", self._turn, places=CHECKS_AT_ONCE)

    async def _turn(self, free: int) -> int:
        if time.monotonic() - self._leases_looked_at > _LEASES_EVERY_SECONDS:
            await self._take_lost()
            self._leases_looked_at = time.monotonic()
        claimed = await claim_followed(self._wiring.db, free, poll_seconds=self._wiring.settings.poll_seconds)
        for job in claimed:
            if job.job_id not in self._checking:
                self._checking.add(job.job_id)
                self.loop.start(self._check(job))
            elif job.cancel_requested_at is not None or job.is_told:
                self._again[job.job_id] = job  # fal is slow: neither a cancel nor a webhook waits for the next claim
        return len(claimed)

    async def _take_lost(self) -> None:
        lost = await self._moves.unconfirm_lost()
        if lost:
            log.warning("%d jobs were being sent when their dispatcher ended; fal's request list is asked", len(lost))
            self._hub.announce(lost)

    async def _check(self, job: Followed) -> None:
        logs.job_id.set(show("job", job.job_id))
        try:
            if self.loop.is_stopping:
                await self._give_back(job)
            elif job.ref is not None:
                await self._ask(job, job.ref)
        except asyncio.CancelledError:
            await self._give_back(job)
            raise
        except Exception as error:
            if not is_database_away(error):
                await self._unconfirm_if_late(job)  # what cannot be stored must not be followed for ever
            raise
        finally:
            self._checking.discard(job.job_id)
            again = self._again.pop(job.job_id, None)
            if again is not None and _has_news(again, job):
                self._checking.add(job.job_id)
                self.loop.start(self._check(again))

    async def _give_back(self, job: Followed) -> None:
        """Due at once: another process asks."""
        await self._moves.check_later(job, after_seconds=0)

    async def _ask(self, job: Followed, ref: RequestRef) -> None:
        if job.cancel_requested_at is not None and job.attempt_outcome not in _CANCEL_TAKEN:
            await self._ask_to_cancel(job, ref, taken="cancel_asked")
        asking = self._wiring.fal.status(ref, with_log=self._log.asks_for(job))
        stands = await self._counted("status", asking)
        await self._log.keep(job, stands)
        match stands:
            case Queued(position):
                await self._saw(job, "submitted", position)
            case InProgress():
                await self._saw(job, "running", None)
            case Completed() as completed:
                await self._read_result(job, ref, completed)
            case Gone():
                await self._gone(job)
            case UnknownStatus(status):
                log.warning("job_%s: fal has a status we do not know (%s); asking on", job.job_id.hex, status)
                await self._unconfirm_if_late(job)
            case Trouble() as trouble:
                await self._slow_down(job, trouble)

    async def _counted(self, call: str, asking: Coroutine[Any, Any, Any]) -> Any:
        outcome = self._wiring.metrics.saw_fal(call, await asking)
        if not isinstance(outcome, Trouble):
            self._troubles = 0
            await self._upstream.answered_read()
        return outcome

    async def _ask_to_cancel(self, job: Followed, ref: RequestRef, *, taken: str) -> None:
        outcome = await self._counted("cancel", self._wiring.fal.cancel(ref))
        if isinstance(outcome, CancelRequested | CancelDone):
            await self._moves.note_attempt(job, taken)

    async def _saw(self, job: Followed, status: str, position: int | None) -> None:
        if await self._unconfirm_if_late(job):
            return
        if (job.status, job.queue_position) == (status, position) and job.gone_at is None:
            return  # nothing new: the claim has already set the next check
        if await self._moves.seen(job, status, position=position):
            self._hub.announce([job.job_id])

    def _is_late(self, job: Followed) -> bool:
        """Whether the job is past its deadline: from its start, or from when it should have started at the latest."""
        deadline = timedelta(seconds=self._wiring.settings.job_deadline_seconds)
        starting = timedelta(seconds=self._wiring.settings.start_seconds)
        now: datetime = self._wiring.clock()
        if job.started_at is not None:
            return now - job.started_at > deadline
        return job.submitted_at is not None and now - job.submitted_at > starting + deadline

    async def _unconfirm_if_late(self, job: Followed, *, is_known: bool = True) -> bool:
        """Past its deadline it is cancelled at fal, and followed to its end.

        `unconfirmed` comes first: of several who find it late one alone makes that move, and so cancels. Until fal
        takes the cancel, each later check asks again; those come once a minute. `is_known`: whether fal may have it.
        """
        if not self._is_late(job):
            return False
        if job.status != "unconfirmed":
            if not await self._moves.unconfirm(job, job.attempt_outcome or "accepted", was=["submitted", "running"]):
                return True
            log.warning("job_%s is past its deadline: unconfirmed, and cancelled at fal", job.job_id.hex)
            self._hub.announce([job.job_id])
        is_ours = job.cancel_requested_at is None and job.attempt_outcome not in _CANCEL_TAKEN
        if is_known and is_ours and job.ref is not None:
            await self._ask_to_cancel(job, job.ref, taken="deadline")
        return True

    async def _slow_down(self, job: Followed, trouble: Trouble) -> None:
        """It says nothing about the job. Ours to mend: keep it, and ask less often while it lasts."""
        self._troubles += 1
        if job.fal_key_id == self._wiring.fal.key_id:
            await self._upstream.refused_read(trouble)
        if self._troubles == 1:
            log.warning("fal does not tell where jobs stand (%s %s); they are kept", trouble.code, trouble.reason)
        if await self._end_as_told(job, is_gone=False):
            return
        if await self._unconfirm_if_late(job):
            return
        poll = self._wiring.settings.poll_seconds
        wait = min(_LONGEST_TROUBLE_SECONDS, poll * 2 ** min(self._troubles, 6), max(poll, job.checks * poll))
        await self._moves.check_later(job, after_seconds=max(wait, min(trouble.retry_after_seconds or 0, 60)))

    async def _gone(self, job: Followed) -> None:
        """Fal does not know its request. One that is `unconfirmed` waits for fal's request list, or for an admin."""
        if await self._end_as_told(job, is_gone=True):
            return
        if job.status == "unconfirmed":
            if job.checks % LIST_EVERY_CHECKS == 0:
                await self._forgotten.ask_the_list(job)
            return  # the claim has already set the next check
        if await self._unconfirm_if_late(job, is_known=False):
            return
        if not await self._forgotten.unconfirm(job):
            await self._moves.check_later(job, after_seconds=_LONGEST_TROUBLE_SECONDS)

    async def _end_as_told(self, job: Followed, *, is_gone: bool) -> bool:
        ending = await find_told_ending(
            self._wiring.db, job, is_gone=is_gone, old_before=causes.old_before(self._wiring), now=self._wiring.clock()
        )
        return ending is not None and await self._endings.end(ending)

    async def _read_result(self, job: Followed, ref: RequestRef, completed: Completed) -> None:
        match await self._counted("result", self._wiring.fal.result(ref, completed)):
            case Succeeded() as succeeded:
                await self._endings.end(causes.succeeded(job, succeeded, completed.inference_seconds))
            case Failed() as failed:
                await self._failed(job, failed, completed)
            case NotYet():
                await self._unconfirm_if_late(job)
            case Gone():
                await self._gone(job)
            case Trouble() as trouble:
                await self._slow_down(job, trouble)

    async def _failed(self, job: Followed, failed: Failed, completed: Completed) -> None:
        """Read it again while it is in doubt; then it ends the job, unless fal only never started it."""
        wait_seconds = self._doubts.wait_seconds(job.attempt_id, failed)
        if wait_seconds:
            if not await self._unconfirm_if_late(job):
                await self._moves.check_later(job, after_seconds=wait_seconds)
        elif failed.start_deadline:
            await self._requeue(job)
        else:
            old_before, seconds = causes.old_before(self._wiring), completed.inference_seconds
            await self._endings.end(causes.failed(job, failed, old_before=old_before, inference_seconds=seconds))

    async def _requeue(self, job: Followed) -> None:
        """Fal let go of it before it started, which is free: it is sent anew, or ends if its caller has cancelled it.

        Where a restore may have hidden that it was sent again already, fal's request list is asked first.
        """
        now = self._wiring.clock()
        if await ask_again(self._wiring.db, job, start_seconds=self._wiring.settings.start_seconds):
            self._hub.announce([job.job_id])
            return
        if causes.has_waited_as_asked(job, now=now):
            await self._endings.end(causes.not_started(job.job_id, was=AT_FAL, attempt_id=job.attempt_id))
            return
        if await self._moves.put_back(job, "start_deadline", was=sorted(AT_FAL), after_seconds=1, queued_at=now):
            self._hub.announce([job.job_id])
            return
        await self._endings.end(causes.canceled_before_start(job, was=AT_FAL))


def _has_news(again: Followed, job: Followed) -> bool:
    """Whether it was claimed again, while it was checked, for more than the time that had passed."""
    return (again.cancel_requested_at, again.is_told) != (job.cancel_requested_at, job.is_told)

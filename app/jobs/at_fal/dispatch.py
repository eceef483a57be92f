"""Sending jobs to fal: claim, commit, POST once, store the answer."""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from app import logs
from app.db import is_database_away
from app.fal import Accepted, NotSent, Refused, RefusedUs, SubmitOutcome, Unknown
from app.ids import show
from app.jobs.at_fal.breaker import limits_of
from app.jobs.at_fal.claims import ToSend, claim_queued
from app.jobs.at_fal.moves import Moves
from app.jobs.at_fal.ramp import Ramp
from app.jobs.at_fal.receive import url_for_fal
from app.jobs.at_fal.upstream import LONGEST_ASKED_FOR_SECONDS, Leave, Upstream
from app.jobs.ends import causes
from app.jobs.ends.ending import Endings
from app.jobs.reads.hub import Hub
from app.jobs.states import BEFORE_ANSWER
from app.loop import Loop
from app.wiring import Wiring

log = logging.getLogger("falgate.dispatch")

Answer = TypeVar("Answer")

SENDING_AT_ONCE: Final = 64
_LEASE_MARGIN_SECONDS: Final = 30.0
_SEND_WITHIN_SECONDS: Final = 5.0  # of the commit that made the job `submitting`
_LONGEST_BACKOFF_SECONDS: Final = 15.0
_INPUT_BYTES_AT_ONCE: Final = 32_000_000  # an image is up to 15,000,000, and is held about three times


class Dispatcher:
    """One a process; any number of replicas share the work through the rows.

    `upstream` gives leave to send, `ramp` says how many may be on their way at once, `claims` who goes next.
    While fal is degraded one job at a time is sent, by one replica, to see whether that has passed: neither is fal
    pressed nor does a bad hour of fal's make every waiting job `unconfirmed`.
    """

    def __init__(self, wiring: Wiring, hub: Hub, endings: Endings, upstream: Upstream) -> None:
        self._wiring = wiring
        self._hub = hub
        self._endings = endings
        self._moves = Moves(wiring)
        self._upstream = upstream
        self._ramp = Ramp(SENDING_AT_ONCE)
        self._lease_seconds = lease_seconds(wiring)
        self._limits = limits_of(wiring.settings)
        self._input_bytes = 0
        self.loop = Loop("dispatch", self._turn, places=SENDING_AT_ONCE)

    def wake(self) -> None:
        """There may be something to send: do not finish the rest.

        While fal is degraded the rest is finished: each turn reads how fal is doing, and a probe is due soon enough.
        """
        if not self._upstream.is_degraded:
            self.loop.wake()

    async def _turn(self, free: int) -> int:
        room = _INPUT_BYTES_AT_ONCE - self._input_bytes
        free = min(free, self._ramp.room)
        leave = await self._upstream.leave() if free > 0 and room > 0 else None
        if leave is None:
            return 0
        try:
            return await self._send_due(leave, 1 if leave.is_probe else free, room)
        except BaseException:
            await self._upstream.give_back(leave)
            raise

    async def _send_due(self, leave: Leave, free: int, room: int) -> int:
        claimed, before_commit = await claim_queued(
            self._wiring.db,
            free,
            lease_seconds=self._lease_seconds,
            fal_key_id=self._wiring.fal.key_id,
            most_bytes=room,
            start_seconds=self._wiring.settings.start_seconds,
            now=self._wiring.clock(),
            concurrency=self._wiring.settings.fal_concurrency,
            limits=self._limits,
        )
        if before_commit is None:
            for job in claimed:
                self.loop.start(self._give_back(job))
            await self._upstream.give_back(leave)
            return 0
        if not claimed:
            self._ramp.rest()
            await self._upstream.give_back(leave)
        self._ramp.sent(len(claimed))
        fills = len(claimed) == free and not leave.is_probe
        for job in claimed:
            self._input_bytes += len(job.input)
            send_by = before_commit + _SEND_WITHIN_SECONDS
            self.loop.start(self._send(job, send_by=send_by, leave=leave, fills=fills))
        return len(claimed)

    async def _send(self, job: ToSend, *, send_by: float, leave: Leave, fills: bool) -> None:
        logs.job_id.set(show("job", job.job_id))
        is_probing = leave.is_probe
        try:
            if self.loop.is_stopping or (self._upstream.is_degraded and not leave.is_probe):
                await self._give_back(job)
                return
            self._hub.announce([job.job_id])
            try:
                outcome = await self._submit(job, send_by)
            except (TypeError, ValueError):  # raised before a byte is sent
                log.exception("job_%s cannot be sent", job.job_id.hex)
                await self._endings.end(causes.unsendable(job))
                return
            is_probing = False
            if isinstance(outcome, Accepted | Refused):
                await self._keep(job, outcome)
                await self._upstream.took(leave)
                if fills:
                    self._ramp.widen()
            else:  # first of all nothing more is to be sent
                self._ramp.narrow()
                await self._upstream.did_not_take(leave, outcome)
                await self._keep(job, outcome)
            self._hub.announce([job.job_id])
        finally:
            self._input_bytes -= len(job.input)
            self._ramp.came_back()
            self.loop.wake()
            if is_probing:
                await self._upstream.give_back(leave)

    async def _give_back(self, job: ToSend) -> None:
        await _until_stored(lambda: self._put_back(job, "not_sent", after_seconds=0))

    async def _submit(self, job: ToSend, send_by: float) -> SubmitOutcome:
        outcome = await self._wiring.fal.submit(
            job.endpoint,
            json.loads(job.input),
            start_seconds=job.start_seconds,
            webhook_url=url_for_fal(self._wiring.settings, job.attempt_id),
            send_by=send_by,
        )
        return self._wiring.metrics.saw_fal("submit", outcome)

    async def _keep(self, job: ToSend, outcome: SubmitOutcome) -> None:
        """Store the answer, however long the database is away; what is lost all the same stands in the log."""
        try:
            await _until_stored(lambda: self._store(job, outcome))
        except BaseException:
            log.error("job_%s: its answer could not be stored: %s", job.job_id.hex, _words(outcome))  # noqa: TRY400
            raise

    async def _store(self, job: ToSend, outcome: SubmitOutcome) -> None:
        match outcome:
            case Accepted():
                await self._store_accepted(job, outcome)
            case Refused(error):
                await self._endings.end(causes.refused(job, error))
                await self._moves.note_attempt(job, "refused")
            case NotSent():
                await self._put_back(job, "not_sent")
            case RefusedUs(_, _, retry_after):
                await self._put_back(job, "refused_us", retry_after=retry_after)
            case Unknown(reason):
                log.warning("job_%s: the answer to its submit was lost (%s)", job.job_id.hex, reason)
                await self._moves.unconfirm(job, "unknown", was=["submitting"])

    async def _store_accepted(self, job: ToSend, accepted: Accepted) -> None:
        try:
            moved = await self._moves.accepted(job, accepted.ref, position=accepted.queue_position)
        except asyncpg.UniqueViolationError:
            log.exception("job_%s: fal gave it the id of another request; it needs an admin", job.job_id.hex)
            await self._moves.unconfirm(job, "accepted", was=["submitting"])  # fal had it: absence is no evidence
            return
        if not moved:
            log.warning("job_%s had moved on when fal accepted it: that request is cancelled", job.job_id.hex)

    async def _put_back(
        self, job: ToSend, outcome: str, *, retry_after: int | None = None, after_seconds: float | None = None
    ) -> None:
        if after_seconds is None:
            after_seconds = _backoff(job.checks + 1, _LONGEST_BACKOFF_SECONDS)
        after_seconds = max(after_seconds, min(retry_after or 0, LONGEST_ASKED_FOR_SECONDS))
        was = sorted(BEFORE_ANSWER)
        if await self._moves.put_back(job, outcome, was=was, after_seconds=after_seconds):
            return
        await self._endings.end(causes.canceled_before_start(job, was=BEFORE_ANSWER))


def lease_seconds(wiring: Wiring) -> float:
    """How long a job that is being sent is its dispatcher's, and a probe whoever took it's."""
    return wiring.fal.longest_seconds + _LEASE_MARGIN_SECONDS


def _backoff(failures: int, longest_seconds: float) -> float:
    """Half a second, doubling, with jitter so that replicas do not march in step."""
    return min(longest_seconds, 0.5 * 2.0 ** min(failures - 1, 10)) * random.uniform(0.75, 1.25)  # noqa: S311


def _words(outcome: SubmitOutcome) -> str:
    """One line for the operator; of an accepted job the id under which fal has it."""
    match outcome:
        case Accepted(ref):
            return f"Accepted as {ref.fal_request_id}"
        case Refused(error):
            return f"Refused: {error.code} {error.type}"
        case NotSent(reason) | RefusedUs(_, reason, _) | Unknown(reason, _):
            return f"{type(outcome).__name__}: {reason}"


async def _until_stored(store: Callable[[], Awaitable[Answer]]) -> Answer:
    """An answer of fal is worth keeping however long the database is away."""
    wait_seconds = 0.2
    while True:
        try:
            return await store()
        except Exception as error:
            if not is_database_away(error):
                raise
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, 5.0)

"""Sending jobs to fal: claim, commit, POST once, store the answer."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from app.db import is_database_away
from app.fal import Accepted, NotSent, Refused, RefusedUs, SubmitOutcome, Unknown
from app.jobs import causes
from app.jobs.claims import ToSend, claim_queued
from app.jobs.ending import Endings
from app.jobs.hub import Hub
from app.jobs.moves import Moves
from app.jobs.receive import webhook_url
from app.jobs.states import BEFORE_ANSWER
from app.loop import Loop
from app.wiring import Wiring

log = logging.getLogger("falgate.dispatch")

Answer = TypeVar("Answer")

SENDING_AT_ONCE: Final = 64
_LEASE_MARGIN_SECONDS: Final = 30.0
_SEND_WITHIN_SECONDS: Final = 5.0  # of the commit that made the job `submitting`
_LONGEST_BACKOFF_SECONDS: Final = 15.0
_LONGEST_PAUSE_SECONDS: Final = 5.0
_LONGEST_ASKED_FOR_SECONDS: Final = 60
_INPUT_BYTES_AT_ONCE: Final = 32_000_000  # an image is up to 15,000,000, and is held about three times


class Dispatcher:
    """One a process; any number of replicas share the work through the rows.

    While fal cannot be reached, refuses us or loses its answers, one job at a time is sent to see whether that has
    passed: neither is fal pressed nor does a bad hour of fal's make every waiting job `unconfirmed`.
    """

    def __init__(self, wiring: Wiring, hub: Hub, endings: Endings) -> None:
        self._wiring = wiring
        self._hub = hub
        self._endings = endings
        self._moves = Moves(wiring)
        self._lease_seconds = wiring.fal.longest_seconds + _LEASE_MARGIN_SECONDS
        self._failures = 0
        self._claims = 0
        self._claims_before_failure = 0
        self._paused_until = 0.0
        self._probe: int | None = None  # the claim whose outcome is waited for
        self._input_bytes = 0
        self.loop = Loop("dispatch", self._turn, places=SENDING_AT_ONCE)

    async def _turn(self, free: int) -> int:
        room = _INPUT_BYTES_AT_ONCE - self._input_bytes
        if self._probe is not None or room <= 0 or time.monotonic() < self._paused_until:
            return 0
        probes = self._failures > 0
        claimed, before_commit = await claim_queued(
            self._wiring.db,
            1 if probes else free,
            lease_seconds=self._lease_seconds,
            fal_key_id=self._wiring.fal.key_id,
            most_bytes=room,
            start_seconds=self._wiring.settings.start_seconds,
            concurrency=self._wiring.settings.fal_concurrency,
        )
        if before_commit is None:
            for job in claimed:
                self.loop.start(self._give_back(job))
            return 0
        self._claims += 1
        if probes and claimed:
            self._probe = self._claims
        for job in claimed:
            self._input_bytes += len(job.input)
            self.loop.start(self._send(job, send_by=before_commit + _SEND_WITHIN_SECONDS, claim=self._claims))
        return len(claimed)

    async def _send(self, job: ToSend, *, send_by: float, claim: int) -> None:
        try:
            if self.loop.is_stopping:
                await self._give_back(job)
                return
            self._hub.announce([job.job_id])
            try:
                outcome = await self._submit(job, send_by)
            except (TypeError, ValueError):  # raised before a byte is sent
                log.exception("job_%s cannot be sent", job.job_id.hex)
                await self._endings.end(causes.unsendable(job))
                return
            self._judge(outcome, claim)
            await self._keep(job, outcome)
            self._hub.announce([job.job_id])
        finally:
            self._input_bytes -= len(job.input)
            if claim == self._probe:
                self._probe = None

    async def _give_back(self, job: ToSend) -> None:
        await _until_stored(lambda: self._put_back(job, "not_sent", after_seconds=0))

    async def _submit(self, job: ToSend, send_by: float) -> SubmitOutcome:
        outcome = await self._wiring.fal.submit(
            job.endpoint,
            json.loads(job.input),
            start_seconds=self._wiring.settings.start_seconds,
            webhook_url=webhook_url(self._wiring.settings, job.attempt_id),
            send_by=send_by,
        )
        return self._wiring.metrics.saw_fal("submit", outcome)

    def _judge(self, outcome: SubmitOutcome, claim: int) -> None:
        """Whether fal takes jobs at present. What was claimed together fails together: that counts once."""
        if isinstance(outcome, Accepted | Refused):
            self._failures, self._paused_until = 0, 0.0
            self.loop.wake()
            return
        if claim <= self._claims_before_failure:
            return
        self._claims_before_failure = self._claims
        self._failures += 1
        asked = outcome.retry_after_seconds if isinstance(outcome, RefusedUs) else None
        pause = _backoff(self._failures - 1, _LONGEST_PAUSE_SECONDS) if self._failures > 1 else 0.0
        self._paused_until = time.monotonic() + max(pause, min(asked or 0, _LONGEST_ASKED_FOR_SECONDS))
        if self._failures == 1:
            log.warning("fal did not take a job (%s); jobs stay queued, and fal is probed", _words(outcome))

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
            await self._moves.unconfirm(job, "unknown", was=["submitting"])
            return
        if not moved:
            log.warning("job_%s had moved on when fal accepted it: that request is cancelled", job.job_id.hex)

    async def _put_back(
        self, job: ToSend, outcome: str, *, retry_after: int | None = None, after_seconds: float | None = None
    ) -> None:
        if after_seconds is None:
            after_seconds = _backoff(job.checks + 1, _LONGEST_BACKOFF_SECONDS)
        after_seconds = max(after_seconds, min(retry_after or 0, _LONGEST_ASKED_FOR_SECONDS))
        was = sorted(BEFORE_ANSWER)
        if await self._moves.put_back(job, outcome, was=was, after_seconds=after_seconds):
            return
        await self._endings.end(causes.canceled_before_start(job, was=BEFORE_ANSWER))


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

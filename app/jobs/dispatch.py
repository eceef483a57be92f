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
from app.jobs.charges import void
from app.jobs.ending import Ending, Endings, error_json, fal_error_json
from app.jobs.hub import Hub
from app.jobs.loop import Loop
from app.jobs.moves import Claimed, Moves
from app.wiring import Wiring

log = logging.getLogger("falgate.dispatch")

Answer = TypeVar("Answer")

SENDING_AT_ONCE: Final = 64
_LEASE_MARGIN_SECONDS: Final = 30.0
_SEND_WITHIN_SECONDS: Final = 5.0  # of the commit that made the job `submitting`
_LONGEST_BACKOFF_SECONDS: Final = 15.0
_LONGEST_PAUSE_SECONDS: Final = 10.0
BEFORE_ANSWER: Final = frozenset({"submitting", "unconfirmed"})


class Dispatcher:
    """One a process; any number of replicas share the work through the rows."""

    def __init__(self, wiring: Wiring, hub: Hub, endings: Endings) -> None:
        self._wiring = wiring
        self._hub = hub
        self._endings = endings
        self._moves = Moves(wiring.db)
        self._lease_seconds = wiring.fal.longest_seconds + _LEASE_MARGIN_SECONDS
        self._failures = 0
        self._paused_until = 0.0
        self.loop = Loop("dispatch", self._turn, places=SENDING_AT_ONCE)

    async def _turn(self, free: int) -> int:
        if time.monotonic() < self._paused_until:
            return 0
        most = 1 if self._failures else free  # one probe at a time while fal cannot be reached or refuses us
        claimed = await self._moves.claim_queued(
            most, lease_seconds=self._lease_seconds, fal_key_id=self._wiring.fal.key_id
        )
        send_by = time.monotonic() + _SEND_WITHIN_SECONDS
        for job in claimed:
            self.loop.start(self._send(job, send_by))
        if self._failures and claimed:
            self._paused_until = time.monotonic() + _backoff(self._failures, _LONGEST_PAUSE_SECONDS)
        return len(claimed)

    async def _send(self, job: Claimed, send_by: float) -> None:
        self._hub.announce([job.job_id])
        outcome = await self._wiring.fal.submit(
            job.endpoint,
            json.loads(job.input),
            start_seconds=self._wiring.settings.start_seconds,
            send_by=send_by,
        )
        self._wiring.metrics.fal_requests.labels("submit", type(outcome).__name__).inc()
        await _until_stored(lambda: self._store(job, outcome))
        self._hub.announce([job.job_id])

    async def _store(self, job: Claimed, outcome: SubmitOutcome) -> None:
        match outcome:
            case Accepted():
                self._reached()
                await self._store_accepted(job, outcome)
            case Refused(error):
                self._reached()
                await self._moves.note_attempt(job, "refused")
                await self._endings.end(
                    Ending(
                        job_id=job.job_id,
                        was=BEFORE_ANSWER,
                        attempt_id=job.attempt_id,
                        status="failed",
                        charge=void("fal refused it: nothing was made"),
                        error=fal_error_json(error),
                    )
                )
            case NotSent(reason):
                await self._put_back(job, "not_sent", reason)
            case RefusedUs(code, reason, retry_after):
                await self._put_back(job, "refused_us", f"{code} {reason}", retry_after)
            case Unknown(reason):
                log.warning("job_%s: the answer to its submit was lost (%s)", job.job_id.hex, reason)
                await self._moves.unconfirm(job, "unknown", was=["submitting"])

    def _reached(self) -> None:
        self._failures, self._paused_until = 0, 0.0
        self.loop.wake()

    async def _store_accepted(self, job: Claimed, accepted: Accepted) -> None:
        try:
            moved = await self._moves.accepted(
                job,
                accepted.ref,
                position=accepted.queue_position,
                now=self._wiring.clock(),
                poll_seconds=self._wiring.settings.poll_seconds,
            )
        except asyncpg.UniqueViolationError:
            log.exception("job_%s: fal gave it the id of another request; it needs an admin", job.job_id.hex)
            await self._moves.unconfirm(job, "unknown", was=["submitting"])
            return
        if not moved:
            log.warning("job_%s had moved on when fal accepted it: that request is cancelled", job.job_id.hex)

    async def _put_back(self, job: Claimed, outcome: str, reason: str, retry_after: int | None = None) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("fal did not take job_%s (%s); it stays queued, and fal is probed", job.job_id.hex, reason)
        after = max(_backoff(job.checks + 1, _LONGEST_BACKOFF_SECONDS), min(retry_after or 0, 60))
        was = sorted(BEFORE_ANSWER)
        if await self._moves.put_back(job, outcome, was=was, after_seconds=after):
            return
        await self._endings.end(canceled_ending(job, was=BEFORE_ANSWER))


def canceled_ending(job: Claimed, *, was: frozenset[str]) -> Ending:
    """The end of a job that its caller cancelled and that fal does not have."""
    return Ending(
        job_id=job.job_id,
        was=was,
        attempt_id=job.attempt_id,
        status="canceled",
        charge=void("cancelled before fal had it"),
        error=error_json(
            code="canceled", title="Canceled", detail="You cancelled it before fal started it.", retryable=False
        ),
    )


def _backoff(failures: int, longest_seconds: float) -> float:
    """Half a second, doubling, with jitter so that replicas do not march in step."""
    return min(longest_seconds, 0.5 * 2 ** min(failures - 1, 10)) * random.uniform(0.75, 1.25)  # noqa: S311


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

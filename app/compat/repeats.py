"""Lost answers: a submit that comes again because its answer never arrived is told of the job that it made.

Python sends a submit up to ten times, over twenty minutes, when the answer is lost (FAL.md 4.1), and no client of fal's
sends a key by which repeats could be told from a second wish for the same. So each submit without an Idempotency-Key of
its own is remembered under one that no caller can send, from the transaction that accepts it until its answer has been
written to a caller who was still on the line, or until it is waited for, as a direct call (`waits`). An equal submit
that finds it there is a repeat, and hears of the earlier job, unless the row goes within moments: then the earlier
answer was only just on its way.

What remains: a gateway that is killed between writing an answer and forgetting it tells an equal submit of that job for
`LASTS`; and an answer that was written whole but never arrived is not known to be lost.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.compat.line import Line
from app.compat.waits import Wait, Waits
from app.db import is_database_away
from app.ids import first_id
from app.jobs.group import Group
from app.jobs.submits.accept import Accepted, SubmitOutcome
from app.jobs.submits.quotes import Replayed
from app.jobs.submits.request import Submission
from app.jobs.submits.submit import Submits
from app.wiring import Wiring

log = logging.getLogger("falgate.repeats")

LASTS: Final = timedelta(minutes=25)
"""Longer than any client goes on repeating; a remembered job that is older is forgotten."""

_MARK: Final = "fal·"  # no caller's Idempotency-Key is anything but ASCII
_ON_ITS_WAY_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 0.02  # and twice as long each time
_LONGEST_PAUSE_SECONDS: Final = 0.32
_FORGET_AGAIN_SECONDS: Final = (0.1, 0.5, 2.0, 5.0)

_FORGET: Final = """
DELETE FROM idempotency_keys i USING unnest($1::uuid[], $2::text[]) AS f (job_id, key), jobs j
WHERE j.id = f.job_id AND i.user_id = j.user_id AND i.key = f.key AND i.job_id = f.job_id
"""


class Told:
    """The job that a submit made, or that an earlier one made whose answer was lost; `release` it.

    While it is remembered, an equal submit is a repeat of this one; a direct call (`wait`) once its caller has gone.
    """

    def __init__(
        self,
        repeats: "Repeats",
        submission: Submission,
        outcome: SubmitOutcome,
        lock: asyncio.Lock | None = None,
        wait: Wait | None = None,
    ) -> None:
        self.job_id = outcome.job_id
        self.is_new = isinstance(outcome, Accepted)
        self._repeats = repeats
        self._submission = submission
        self._lock = lock
        self._wait = wait
        self._is_ours = lock is not None  # an Idempotency-Key of the caller's own is remembered for ever

    async def forget(self) -> None:
        """Its caller has heard of it: an equal submit is another job."""
        if self._wait is not None:
            await self._repeats.waits.end(self._wait)
        elif self._is_ours:
            await self._repeats.forget(self.job_id, self._submission)

    async def remember(self) -> None:
        """Its caller hung up before it heard: an equal submit is this one again."""
        if self._wait is not None:
            await self._repeats.waits.leave(self._wait)

    def release(self) -> None:
        """Equal submits that waited for this one go on."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class Repeats:
    """One a process, in front of the one door through which jobs come in."""

    def __init__(self, wiring: Wiring, submits: Submits) -> None:
        self.on_its_way_seconds = _ON_ITS_WAY_SECONDS
        self._wiring = wiring
        self._submits = submits
        self.waits = Waits(wiring, last=LASTS)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._forgetting = Group[tuple[UUID, str], None](self._forget)

    async def submit(self, submission: Submission, line: Line, *, waits: bool = False) -> Told:
        """Accept it, unless it repeats one whose answer was lost. Release what is returned.

        `waits`: it is a direct call, which equal submits to the queue have nothing to do with. Equal ones of this
        process go one after the other, so only another replica's answer may be on its way. Raises as `Submits.submit`
        does, and ClientDisconnect when nobody would hear the answer: then nothing was accepted.
        """
        if submission.idempotency_key is not None:
            await line.require_caller()
            return Told(self, submission, await self._submits.submit(submission))
        key = _key_of(submission, "run" if waits else "queue")
        submission = replace(submission, idempotency_key=key)
        lock = self._locks.setdefault(key, asyncio.Lock())
        await lock.acquire()
        try:
            await line.require_caller()
            wait = await self.waits.take_over(submission.secret_hash, key, line) if waits else None
            outcome = await self._accept(submission, line) if wait is None else Replayed(wait.job_id)
            if waits and wait is None:
                wait = await self.waits.begin(outcome.job_id, key, line)
        except BaseException:
            lock.release()
            raise
        return Told(self, submission, outcome, lock, wait)

    async def _accept(self, submission: Submission, line: Line) -> SubmitOutcome:
        loop = asyncio.get_running_loop()
        waits_for, give_up_at, pause_seconds = None, 0.0, 0.0
        while True:
            await line.require_caller()
            outcome = await self._submits.submit(submission)
            if isinstance(outcome, Accepted):
                return outcome
            if outcome.job_id < first_id(self._wiring.clock() - LASTS):
                await self.forget(outcome.job_id, submission)
                continue
            if outcome.job_id != waits_for:
                waits_for, give_up_at = outcome.job_id, loop.time() + self.on_its_way_seconds
                pause_seconds = _LOOK_AGAIN_SECONDS
            elif loop.time() >= give_up_at:
                return outcome
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def forget(self, job_id: UUID, submission: Submission) -> None:
        """An equal submit is another job from now on. While the database is away this waits for it, for a while."""
        for pause_seconds in (*_FORGET_AGAIN_SECONDS, None):
            try:
                await self._forgetting((job_id, submission.idempotency_key or ""))
            except Exception as error:
                if not is_database_away(error):
                    raise
                if pause_seconds is not None:
                    await asyncio.sleep(pause_seconds)
                    continue
                log.warning("job_%s was answered, but an equal submit will be told of it for a while", job_id.hex)
            return

    async def _forget(self, batch: Sequence[tuple[UUID, str]]) -> list[Exception | None]:
        async with self._wiring.db.begin_plain(durable=False) as plain:
            await plain.execute(_FORGET, [job_id for job_id, _ in batch], [key for _, key in batch])
        return [None] * len(batch)


class HeardResponse(Response):
    """Another response, by which a caller hears of a job: forgotten once it is written while the caller was there.

    Send it at once: it has the line, and holds up equal submits.
    """

    def __init__(self, response: Response, told: Told, line: Line) -> None:
        super().__init__(status_code=response.status_code)
        self.raw_headers = response.raw_headers
        self._response = response
        self._told = told
        self._line = line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; to a connection that is gone the server writes nothing, and does not say so."""
        try:
            await self._line.require_caller()
            await self._response(scope, receive, send)
            if self._line.is_gone:
                await self._told.remember()
            else:
                await self._told.forget()
        except BaseException:
            await self._told.remember()
            raise
        finally:
            self._told.release()
            self._line.close()


def _key_of(submission: Submission, kind: str) -> str:
    """The same for the same key, end user, endpoint, body and webhook."""
    digest = hashlib.sha256(b"|".join([kind.encode(), submission.secret_hash, submission.fingerprint])).hexdigest()
    return f"{_MARK}{digest}"

"""Accepting jobs: key, price, quotas, hold and insert in one transaction, shared by those that arrive together."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, cast
from uuid import UUID

import asyncpg

from app.accounts.last_used import LastUsed
from app.db import CommitUnknown, is_database_away
from app.jobs.group import Group
from app.jobs.reads.wire import JOB_JSON
from app.jobs.submits.accept import Acceptance, Accepted, RepeatsAtOnce, SubmitOutcome, WindowsMissing
from app.jobs.submits.request import Submission
from app.ledger.locks import EXCLUSIVE_LOCK, SHARED_LOCK
from app.ledger.quotas import Applied
from app.ledger.refusals import RefusalCounts
from app.ledger.usage import create_windows
from app.problems import Problem, Unavailable
from app.wiring import Wiring

log = logging.getLogger("falgate.submit")

_TRIES: Final = 5
_LOOK_UP_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 0.3
_UNKNOWN: Final = (
    "The database went away while this was being stored, so it may have been accepted: look at GET /v1/jobs before "
    "you send it again, or repeat it with the same Idempotency-Key."
)

_LOOK_UP: Final = f"SELECT j.id, {JOB_JSON} AS body FROM jobs j WHERE j.id = ANY($1)"  # noqa: S608


class Submits:
    """The one door through which jobs come in."""

    def __init__(
        self, wiring: Wiring, last_used: LastUsed, refusals: RefusalCounts, *, wake: Callable[[], None]
    ) -> None:
        self._wake = wake
        self._wiring = wiring
        self._last_used = last_used
        self._refusals = refusals
        self._group = Group[Submission, SubmitOutcome](self._run, sizes=wiring.metrics.group_size.labels("submit"))

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Accept it, once committed, or raise what refuses it: KeyUnknown, ModelUnpriced, QuotaExceeded and so on.

        Raises Unavailable when nobody can tell whether it was stored, and the driver's own error (see
        `is_database_away`) when the database is away: then nothing was.
        """
        try:
            return await self._group(submission)
        except Problem as problem:
            self._wiring.metrics.refusals.labels(problem.code).inc()
            raise

    async def _run(self, batch: Sequence[Submission]) -> Sequence[SubmitOutcome | Exception]:
        missing: Sequence[Applied] = ()
        for _ in range(_TRIES):
            transaction = Acceptance(batch, now=self._wiring.clock(), zone=self._wiring.settings.zone)
            try:
                if missing:
                    await create_windows(self._wiring.db, missing, now=transaction.now)
                async with self._wiring.db.begin_plain(first=f"SELECT {SHARED_LOCK}") as plain:
                    await transaction.run(plain, self._last_used)
            except WindowsMissing as signal:
                missing = signal.missing
                continue
            except (RepeatsAtOnce, asyncpg.DeadlockDetectedError):
                continue
            except CommitUnknown:
                await self._look_up(transaction)
            if transaction.made:
                self._wake()
            for team_id, user_id, problem in transaction.refused:
                self._refusals.count(problem, team_id=team_id, user_id=user_id)
            await self._run_repeats(transaction)
            return cast("Sequence[SubmitOutcome | Exception]", transaction.outcomes)
        raise Unavailable("The gateway is too busy to decide this just now. Send the same request again in a moment.")

    async def _run_repeats(self, transaction: Acceptance) -> None:
        """Members whose idempotency key another member of the same transaction had: each alone, after it.

        Whatever becomes of them, what has been committed stays answered: raising here would run all of it again.
        """
        for index in transaction.repeats:
            try:
                (transaction.outcomes[index],) = await self._run([transaction.batch[index]])
            except Exception as error:  # noqa: BLE001  it is this member's own
                transaction.outcomes[index] = error

    async def _look_up(self, transaction: Acceptance) -> None:
        """The answer to COMMIT was lost: say what happened, once nothing is on its way any more.

        The database may be away for a while. Raises nothing: what may have been committed must not be run again.
        """
        log.warning("the answer to a COMMIT of %d jobs was lost; looking them up", len(transaction.made))
        found = await self._find_made(list(transaction.made))
        for job_id, index in transaction.made.items():
            if found is None:
                transaction.outcomes[index] = Unavailable(_UNKNOWN)
            else:
                transaction.outcomes[index] = Accepted(job_id, found[job_id]) if job_id in found else Unavailable()
        transaction.made = {job_id: index for job_id, index in transaction.made.items() if job_id in (found or ())}

    async def _find_made(self, job_ids: Sequence[UUID]) -> dict[UUID, str] | None:
        """Those of the jobs that are there, as JSON text; None when the database did not come back in time.

        The lost transaction holds the quotas' lock shared until it is decided, so whoever gets it exclusively may
        believe what it sees.
        """
        give_up_at = time.monotonic() + _LOOK_UP_SECONDS
        while True:
            try:
                async with self._wiring.db.begin_plain() as plain:
                    await plain.execute(f"SELECT {EXCLUSIVE_LOCK}")
                    return {row["id"]: row["body"] for row in await plain.fetch(_LOOK_UP, job_ids)}
            except Exception as error:
                if not is_database_away(error) or time.monotonic() > give_up_at:
                    log.exception("%d jobs could not be looked up: nobody knows whether they are there", len(job_ids))
                    return None
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

"""How a job that has not ended moves: each a compare-and-set on status and attempt, in a transaction of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.fal import RequestRef
from app.jobs.at_fal.claims import UNCONFIRMED_EVERY_SECONDS, Claimed
from app.jobs.forgetting.forget import forget_at_fal
from app.jobs.group import Group
from app.wiring import Wiring

_LEASE_LOST: Final = """
WITH lost AS (
    UPDATE jobs SET status = 'unconfirmed', next_check_at = NULL, version = version + 1
    WHERE id IN (SELECT id FROM jobs
                 WHERE status IN ('submitting', 'submitted', 'running', 'unconfirmed') AND status = 'submitting'
                   AND next_check_at <= now() LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING id, attempt_id
), noted AS (
    UPDATE attempts SET outcome = 'unknown' FROM lost WHERE attempts.id = lost.attempt_id AND outcome IS NULL
)
SELECT id FROM lost
"""
_ATTEMPT: Final = "UPDATE attempts SET outcome = $2 WHERE id = $1"
_ACCEPTED: Final = """
WITH a AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[])
        AS a (job_id, attempt_id, fal_request_id, status_path, result_path, cancel_path, position)
), noted AS (
    UPDATE attempts t SET outcome = 'accepted', fal_request_id = a.fal_request_id, status_path = a.status_path,
           result_path = a.result_path, cancel_path = a.cancel_path
    FROM a WHERE t.id = a.attempt_id AND (t.fal_request_id IS NULL OR t.fal_request_id = a.fal_request_id)
), mine AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE
)
UPDATE jobs j SET status = 'submitted', fal_request_id = a.fal_request_id, queue_position = a.position,
       submitted_at = $8, checks = 0, version = version + 1,
       next_check_at = now() + make_interval(secs => CASE WHEN cancel_requested_at IS NULL THEN $9 ELSE 0 END)
FROM a JOIN mine ON mine.id = a.job_id
WHERE j.id = a.job_id AND j.attempt_id = a.attempt_id AND j.status IN ('submitting', 'unconfirmed')
  AND j.fal_request_id IS NULL
RETURNING j.attempt_id
"""
# No stray: an answer that is stored a second time, because nobody knew whether the first COMMIT happened; and one that
# comes after an admin has charged the job, since that charge was for it.
_STRAYS: Final = """
UPDATE attempts t SET stray_check_at = now()
WHERE t.id = ANY($1) AND NOT EXISTS (
    SELECT FROM jobs j WHERE j.id = t.job_id AND j.attempt_id = t.id
      AND (j.fal_request_id = t.fal_request_id
           OR EXISTS (SELECT FROM entries e WHERE e.job_id = j.id AND e.kind = 'settle')))
RETURNING t.id
"""
_PUT_BACK: Final = """
UPDATE jobs SET status = 'queued', attempt_id = NULL, fal_request_id = NULL, queue_position = NULL,
       submitted_at = NULL, started_at = NULL, gone_at = NULL, checks = checks + 1, version = version + 1,
       queued_at = coalesce($5, queued_at), next_check_at = now() + make_interval(secs => $4)
WHERE id = $1 AND attempt_id = $2 AND status = ANY($3) AND cancel_requested_at IS NULL
RETURNING id
"""
_UNCONFIRM: Final = """
UPDATE jobs SET status = 'unconfirmed', version = version + 1, queue_position = NULL, gone_at = NULL,
       next_check_at = CASE WHEN fal_request_id IS NULL THEN NULL ELSE now() + make_interval(secs => $4) END
WHERE id = $1 AND attempt_id = $2 AND status = ANY($3)
RETURNING id
"""
_SEEN: Final = """
WITH mine AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE
)
UPDATE jobs j SET status = s.status, queue_position = s.position, gone_at = NULL, version = j.version + 1,
       next_check_at = CASE WHEN j.status = 'unconfirmed' THEN now() + make_interval(secs => $6)
                            ELSE j.next_check_at END,
       started_at = CASE WHEN s.status = 'running' THEN coalesce(j.started_at, $5) ELSE NULL END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[]) AS s (id, attempt_id, status, position)
JOIN mine ON mine.id = s.id
WHERE j.id = s.id AND j.attempt_id = s.attempt_id AND j.status IN ('submitted', 'running', 'unconfirmed')
RETURNING j.id
"""
# A cancel that came meanwhile wants its check now.
_LATER: Final = """
UPDATE jobs SET next_check_at = now() + make_interval(secs => $3)
WHERE id = $1 AND attempt_id = $2 AND finished_at IS NULL AND next_check_at IS NOT NULL
  AND cancel_requested_at IS NOT DISTINCT FROM $4
"""
_GONE: Final = """
UPDATE jobs SET gone_at = $3
WHERE id = $1 AND attempt_id = $2 AND gone_at IS NULL AND status IN ('submitted', 'running')
"""
# Of those that are followed: an unconfirmed job has had its say, and must not speak against the others.
_GONE_AT_ONCE: Final = """
SELECT count(*) FROM jobs WHERE gone_at IS NOT NULL AND finished_at IS NULL AND status IN ('submitted', 'running')
"""


@dataclass(frozen=True, slots=True)
class _Acceptance:
    job: Claimed
    ref: RequestRef
    position: int | None


@dataclass(frozen=True, slots=True)
class _Sighting:
    job: Claimed
    status: str
    position: int | None


class Moves:
    """The statements that move jobs. Each returns whether the job stood where the mover believed.

    What fal accepted, and where it says that jobs stand, is written together when it arrives together.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._db = wiring.db
        self._clock = wiring.clock
        self._poll_seconds = wiring.settings.poll_seconds
        sizes = wiring.metrics.group_size
        self._accepting = Group[_Acceptance, bool](self._accept, sizes=sizes.labels("accepted"))
        self._seeing = Group[_Sighting, bool](self._see, sizes=sizes.labels("seen"))

    async def unconfirm_lost(self) -> list[UUID]:
        """Jobs whose dispatcher never came back: nobody knows whether fal has them."""
        async with self._db.begin_plain() as plain:
            return [row["id"] for row in await plain.fetch(_LEASE_LOST)]

    async def accepted(self, job: Claimed, ref: RequestRef, *, position: int | None) -> bool:
        """It is at fal. The attempt remembers that whatever the job has become; False: the request is a stray.

        May be repeated. Raises UniqueViolationError when another attempt has this fal request id.
        """
        return await self._accepting(_Acceptance(job, ref, position))

    async def _accept(self, batch: Sequence[_Acceptance]) -> list[bool | Exception]:
        attempts = [each.job.attempt_id for each in batch]
        async with self._db.begin_plain() as plain:
            moved = await plain.fetch(
                _ACCEPTED,
                [each.job.job_id for each in batch],
                attempts,
                [each.ref.fal_request_id for each in batch],
                [each.ref.status_path for each in batch],
                [each.ref.result_path for each in batch],
                [each.ref.cancel_path for each in batch],
                [each.position for each in batch],
                self._clock(),
                self._poll_seconds,
            )
            elsewhere = set(attempts) - {row["attempt_id"] for row in moved}
            strays = {row["id"] for row in await plain.fetch(_STRAYS, list(elsewhere))} if elsewhere else set()
            if elsewhere:  # a job may have ended, and been erased, before fal named what it had made of it
                late = [each.job.job_id for each in batch if each.job.attempt_id in elsewhere]
                await forget_at_fal(plain, late, wiring=self._wiring)
        return [attempt not in strays for attempt in attempts]

    async def note_attempt(self, job: Claimed, outcome: str) -> None:
        """Remember on the attempt what came of it."""
        async with self._db.begin_plain() as plain:
            await plain.execute(_ATTEMPT, job.attempt_id, outcome)

    async def put_back(
        self, job: Claimed, outcome: str, *, was: list[str], after_seconds: float, queued_at: datetime | None = None
    ) -> bool:
        """Back to `queued`; False also when the caller has asked to cancel it: then it has to end.

        `queued_at`: fal had it, so its time in `queued` begins anew.
        """
        async with self._db.begin_plain() as plain:
            moved = await plain.fetchval(_PUT_BACK, job.job_id, job.attempt_id, was, after_seconds, queued_at)
            await plain.execute(_ATTEMPT, job.attempt_id, outcome)
        return moved is not None

    async def unconfirm(self, job: Claimed, outcome: str, *, was: list[str]) -> bool:
        """Nobody knows where it stands; it keeps its fal request id, and is asked about once a minute."""
        async with self._db.begin_plain() as plain:
            moved = await plain.fetchval(_UNCONFIRM, job.job_id, job.attempt_id, was, UNCONFIRMED_EVERY_SECONDS)
            await plain.execute(_ATTEMPT, job.attempt_id, outcome)
        return moved is not None

    async def seen(self, job: Claimed, status: str, *, position: int | None) -> bool:
        """What fal says of where it stands: `submitted` (in its queue) or `running`."""
        return await self._seeing(_Sighting(job, status, position))

    async def _see(self, batch: Sequence[_Sighting]) -> list[bool | Exception]:
        async with self._db.begin_plain(durable=False) as plain:
            rows = await plain.fetch(
                _SEEN,
                [each.job.job_id for each in batch],
                [each.job.attempt_id for each in batch],
                [each.status for each in batch],
                [each.position for each in batch],
                self._clock(),
                self._poll_seconds,
            )
        moved = {row["id"] for row in rows}
        return [each.job.job_id in moved for each in batch]

    async def check_later(self, job: Claimed, *, after_seconds: float) -> None:
        """Nothing was learnt: ask again after so long."""
        async with self._db.begin_plain(durable=False) as plain:
            await plain.execute(_LATER, job.job_id, job.attempt_id, after_seconds, job.cancel_requested_at)

    async def gone(self, job: Claimed, *, now: datetime) -> int:
        """Remember that fal does not know the request, and since when; returns how many jobs it says so of."""
        async with self._db.begin_plain(durable=False) as plain:
            await plain.execute(_GONE, job.job_id, job.attempt_id, now)
            return int(await plain.fetchval(_GONE_AT_ONCE))

"""How a job that has not ended moves: each a compare-and-set on status and attempt, in a transaction of its own."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.db import Database
from app.fal import RequestRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A job that is ours to work on until its lease ends."""

    job_id: UUID
    attempt_id: UUID
    status: str
    endpoint: str
    input: str
    checks: int
    cancel_requested_at: datetime | None
    gone_at: datetime | None
    submitted_at: datetime | None
    started_at: datetime | None
    queue_position: int | None
    fal_key_id: str
    attempt_outcome: str | None
    ref: RequestRef | None


_CLAIMED: Final = """
c.id, c.attempt_id, c.status, c.endpoint, coalesce(p.input, c.input)::text AS input, c.checks, c.cancel_requested_at,
c.gone_at, c.submitted_at, c.started_at, c.queue_position
"""
_CLAIM_QUEUED: Final = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM jobs WHERE status = 'queued' AND next_check_at <= now()
    ORDER BY next_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
), c AS (
    UPDATE jobs j SET status = 'submitting', attempt_id = gen_random_uuid(), version = j.version + 1,
           next_check_at = now() + make_interval(secs => $2)
    FROM due WHERE j.id = due.id RETURNING j.*
), made AS (
    INSERT INTO attempts (id, job_id, sent_at, fal_key_id) SELECT attempt_id, id, now(), $3 FROM c
)
SELECT {_CLAIMED}, $3 AS fal_key_id, NULL AS outcome, NULL AS fal_request_id
FROM c LEFT JOIN payloads p ON p.job_id = c.id
"""  # noqa: S608
_CLAIM_TRACKED: Final = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM jobs
    WHERE status IN ('submitting', 'submitted', 'running', 'unconfirmed') AND status <> 'submitting'
      AND next_check_at <= now()
    ORDER BY next_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
), c AS (
    UPDATE jobs j SET checks = j.checks + 1,
           next_check_at = now() + make_interval(secs => least($2 * 1.1 ^ least(j.checks, 100), greatest($2, $3)))
    FROM due WHERE j.id = due.id RETURNING j.*
)
SELECT {_CLAIMED}, a.fal_key_id, a.outcome, a.fal_request_id, a.status_path, a.result_path, a.cancel_path
FROM c JOIN attempts a ON a.id = c.attempt_id LEFT JOIN (SELECT NULL::uuid AS job_id, NULL::json AS input) p ON false
"""  # noqa: S608
_LEASE_LOST: Final = """
UPDATE jobs SET status = 'unconfirmed', next_check_at = NULL, version = version + 1
WHERE id IN (SELECT id FROM jobs
             WHERE status IN ('submitting', 'submitted', 'running', 'unconfirmed') AND status = 'submitting'
               AND next_check_at <= now() LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING id
"""
_ATTEMPT: Final = "UPDATE attempts SET outcome = $2 WHERE id = $1"
_ACCEPTED_ATTEMPT: Final = """
UPDATE attempts SET outcome = 'accepted', fal_request_id = $2, status_path = $3, result_path = $4, cancel_path = $5
WHERE id = $1
"""
_ACCEPTED_JOB: Final = """
UPDATE jobs SET status = 'submitted', fal_request_id = $3, queue_position = $4, submitted_at = $5, checks = 0,
       version = version + 1,
       next_check_at = now() + make_interval(secs => CASE WHEN cancel_requested_at IS NULL THEN $6 ELSE 0 END)
WHERE id = $1 AND attempt_id = $2 AND status IN ('submitting', 'unconfirmed')
RETURNING id
"""
_STRAY: Final = "UPDATE attempts SET stray_check_at = now() WHERE id = $1"
_PUT_BACK: Final = """
UPDATE jobs SET status = 'queued', attempt_id = NULL, fal_request_id = NULL, queue_position = NULL,
       submitted_at = NULL, started_at = NULL, gone_at = NULL, checks = checks + 1, version = version + 1,
       next_check_at = now() + make_interval(secs => $4)
WHERE id = $1 AND attempt_id = $2 AND status = ANY($3) AND cancel_requested_at IS NULL
RETURNING id
"""
_UNCONFIRM: Final = """
UPDATE jobs SET status = 'unconfirmed', version = version + 1, queue_position = NULL, gone_at = NULL,
       next_check_at = CASE WHEN fal_request_id IS NULL THEN NULL ELSE now() + interval '60 seconds' END
WHERE id = $1 AND attempt_id = $2 AND status = ANY($3)
RETURNING id
"""
_SEEN: Final = """
UPDATE jobs SET status = $3, queue_position = $4, gone_at = NULL, version = version + 1,
       started_at = CASE WHEN $3 = 'running' THEN coalesce(started_at, $5) ELSE NULL END
WHERE id = $1 AND attempt_id = $2 AND status IN ('submitted', 'running', 'unconfirmed')
RETURNING id
"""
_LATER: Final = """
UPDATE jobs SET next_check_at = now() + make_interval(secs => $3)
WHERE id = $1 AND attempt_id = $2 AND finished_at IS NULL AND next_check_at IS NOT NULL
"""
_GONE: Final = "UPDATE jobs SET gone_at = $3 WHERE id = $1 AND attempt_id = $2 AND gone_at IS NULL"
_GONE_AT_ONCE: Final = "SELECT count(*) FROM jobs WHERE gone_at IS NOT NULL AND finished_at IS NULL"

LONGEST_INTERVAL_SECONDS: Final = 15.0


class Moves:
    """The statements that move jobs. Each returns whether the job stood where the mover believed."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim_queued(self, most: int, *, lease_seconds: float, fal_key_id: str) -> list[Claimed]:
        """Take jobs to send: `submitting`, with their attempts' rows, committed. Oldest due first."""
        async with self._db.begin_plain() as plain:
            rows = await plain.fetch(_CLAIM_QUEUED, most, lease_seconds, fal_key_id)
        return [_claimed(row) for row in rows]

    async def claim_tracked(self, most: int, *, poll_seconds: float) -> list[Claimed]:
        """Take jobs to ask fal about; the next check of each is set, so a check that finds nothing new is done."""
        async with self._db.begin_plain(durable=False) as plain:
            rows = await plain.fetch(_CLAIM_TRACKED, most, poll_seconds, LONGEST_INTERVAL_SECONDS)
        return [_claimed(row) for row in rows]

    async def unconfirm_lost(self) -> list[UUID]:
        """Jobs whose dispatcher never came back: nobody knows whether fal has them."""
        async with self._db.begin_plain() as plain:
            return [row["id"] for row in await plain.fetch(_LEASE_LOST)]

    async def accepted(
        self, job: Claimed, ref: RequestRef, *, position: int | None, now: datetime, poll_seconds: float
    ) -> bool:
        """fal has it. The attempt remembers that whatever the job has become; False: the request is a stray."""
        async with self._db.begin_plain() as plain:
            await plain.execute(
                _ACCEPTED_ATTEMPT, job.attempt_id, ref.fal_request_id, ref.status_path, ref.result_path, ref.cancel_path
            )
            moved = await plain.fetchval(
                _ACCEPTED_JOB, job.job_id, job.attempt_id, ref.fal_request_id, position, now, poll_seconds
            )
            if moved is None:
                await plain.execute(_STRAY, job.attempt_id)
        return moved is not None

    async def note_attempt(self, job: Claimed, outcome: str) -> None:
        """Remember on the attempt what came of it."""
        async with self._db.begin_plain() as plain:
            await plain.execute(_ATTEMPT, job.attempt_id, outcome)

    async def put_back(self, job: Claimed, outcome: str, *, was: list[str], after_seconds: float) -> bool:
        """Back to `queued`; False also when the caller has asked to cancel it: then it has to end."""
        async with self._db.begin_plain() as plain:
            await plain.execute(_ATTEMPT, job.attempt_id, outcome)
            return await plain.fetchval(_PUT_BACK, job.job_id, job.attempt_id, was, after_seconds) is not None

    async def unconfirm(self, job: Claimed, outcome: str, *, was: list[str]) -> bool:
        """Nobody knows where it stands; it keeps its fal request id, and is asked about once a minute."""
        async with self._db.begin_plain() as plain:
            await plain.execute(_ATTEMPT, job.attempt_id, outcome)
            return await plain.fetchval(_UNCONFIRM, job.job_id, job.attempt_id, was) is not None

    async def seen(self, job: Claimed, status: str, *, position: int | None, now: datetime) -> bool:
        """fal says where it stands: `submitted` (in its queue) or `running`."""
        async with self._db.begin_plain(durable=False) as plain:
            return await plain.fetchval(_SEEN, job.job_id, job.attempt_id, status, position, now) is not None

    async def check_later(self, job: Claimed, *, after_seconds: float) -> None:
        """Nothing was learnt: ask again after so long."""
        async with self._db.begin_plain(durable=False) as plain:
            await plain.execute(_LATER, job.job_id, job.attempt_id, after_seconds)

    async def gone(self, job: Claimed, *, now: datetime) -> int:
        """fal said, for the first time, that it does not know the request; returns how many jobs it says so of."""
        async with self._db.begin_plain(durable=False) as plain:
            await plain.execute(_GONE, job.job_id, job.attempt_id, now)
            return int(await plain.fetchval(_GONE_AT_ONCE))


def _claimed(row: Any) -> Claimed:
    return Claimed(
        job_id=row["id"],
        attempt_id=row["attempt_id"],
        status=row["status"],
        endpoint=row["endpoint"],
        input=row["input"],
        checks=row["checks"],
        cancel_requested_at=row["cancel_requested_at"],
        gone_at=row["gone_at"],
        submitted_at=row["submitted_at"],
        started_at=row["started_at"],
        queue_position=row["queue_position"],
        fal_key_id=row["fal_key_id"],
        attempt_outcome=row["outcome"],
        ref=_ref(row) if row["fal_request_id"] else None,
    )


def _ref(row: Any) -> RequestRef:
    return RequestRef(row["fal_request_id"], row["status_path"], row["result_path"], row["cancel_path"])

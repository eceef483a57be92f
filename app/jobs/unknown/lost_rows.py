"""The rows of jobs whose answer was lost: who is asked about, who could be mistaken for them, what is learnt."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.db import Database, Lock
from app.jobs.at_fal.claims import Claimed
from app.jobs.unknown.evidence import OpenAttempt

_LISTED_HOURS: Final = 25  # the list goes back 24: older ones are nobody's rivals, and fal has nothing to say of them

# By attempts_lost_idx. An endpoint is asked about once in so long, and by one replica: all its jobs are claimed at
# once, and none is while one of them still waits for its turn. Of two replicas that claim at the same moment each would
# pass over what the other has locked, and both would ask: the second waits, and finds nothing due.
_ONE_AT_A_TIME: Final = f"SELECT pg_advisory_xact_lock({Lock.LOST})"
_CLAIM: Final = f"""
WITH lost AS MATERIALIZED (
    SELECT j.id, j.endpoint, j.next_check_at FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempt_id = a.id
    WHERE a.fal_request_id IS NULL AND a.outcome IN ('unknown', 'recovered')
      AND a.sent_at > now() - interval '{_LISTED_HOURS} hours'
      AND j.status = 'unconfirmed' AND j.fal_request_id IS NULL
), due AS MATERIALIZED (
    SELECT j.id FROM jobs j
    WHERE j.id IN (SELECT id FROM lost WHERE endpoint NOT IN (SELECT endpoint FROM lost WHERE next_check_at > now()))
      AND (j.next_check_at IS NULL OR j.next_check_at <= now())
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE jobs j SET next_check_at = now() + make_interval(secs => $1) FROM due WHERE j.id = due.id
    RETURNING j.endpoint
)
SELECT DISTINCT endpoint, now() AS asked_at FROM claimed
"""  # noqa: S608  ours
# Of an attempt without an outcome somebody may just be waiting for the answer.
_OPEN: Final = f"""
SELECT a.*, j.input::text AS input, j.checks, j.cancel_requested_at,
       j.status = 'unconfirmed' AND j.attempt_id = a.id AND j.fal_request_id IS NULL AS is_lost
FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.fal_request_id IS NULL AND a.outcome IN ('unknown', 'recovered')
  AND a.sent_at > now() - interval '{_LISTED_HOURS} hours' AND j.endpoint = $1
UNION ALL
SELECT a.*, j.input::text AS input, j.checks, j.cancel_requested_at, false AS is_lost
FROM jobs j JOIN attempts a ON a.id = j.attempt_id
WHERE j.status IN ('submitting', 'submitted', 'running', 'unconfirmed') AND j.status = 'submitting'
  AND a.fal_request_id IS NULL AND a.outcome IS NULL AND j.endpoint = $1
"""  # noqa: S608
_KNOWN: Final = "SELECT fal_request_id FROM attempts WHERE fal_request_id = ANY($1)"
_REMEMBER: Final = "UPDATE attempts SET absent_at = $2 WHERE id = ANY($1) AND fal_request_id IS NULL"
# The job before its attempt: in the order in which an answer is stored, which does either wholly before or after.
_LOCK_JOB: Final = "SELECT FROM jobs WHERE id = $1 FOR UPDATE"
_STILL_LOST: Final = """
SELECT 1 FROM attempts WHERE id = $1 AND fal_request_id IS NULL AND outcome IN ('unknown', 'recovered') FOR UPDATE
"""
_HAS_A_REQUEST: Final = """
SELECT 1 FROM attempts WHERE job_id = $1 AND fal_request_id IS NOT NULL AND outcome IS DISTINCT FROM 'start_deadline'
"""
_QUEUE_AGAIN: Final = """
UPDATE jobs SET status = 'queued', attempt_id = NULL, queue_position = NULL, submitted_at = NULL, started_at = NULL,
       gone_at = NULL, version = version + 1, queued_at = $3, next_check_at = now()
WHERE id = $1 AND attempt_id = $2 AND status = 'unconfirmed' AND fal_request_id IS NULL AND cancel_requested_at IS NULL
RETURNING id
"""
_ABSENT: Final = "UPDATE attempts SET outcome = 'absent' WHERE id = $1 AND fal_request_id IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An endpoint whose jobs are ours to ask about; `asked_at` is a moment before, by the database's clock."""

    endpoint: str
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(Claimed):
    """An `unconfirmed` job without a fal request id."""

    attempt: OpenAttempt


@dataclass(frozen=True, slots=True)
class Suspects:
    """The lost jobs of an endpoint, and the attempts of others that could be mistaken for theirs."""

    lost: tuple[Lost, ...]
    others: tuple[OpenAttempt, ...]


async def claim_endpoints(db: Database, *, every_seconds: float) -> list[Asked]:
    """The endpoints that fal's list is to be asked about now; not again before `every_seconds`."""
    async with db.begin_plain(durable=False, first=_ONE_AT_A_TIME) as plain:
        rows = await plain.fetch(_CLAIM, every_seconds)
    return [Asked(endpoint=row["endpoint"], asked_at=row["asked_at"]) for row in rows]


async def read_suspects(db: Database, endpoint: str) -> Suspects:
    """Every open attempt of the endpoint. Read after the list, so that whoever is on it is here, or has its id."""
    async with db.plain() as plain:
        rows = await plain.fetch(_OPEN, endpoint)
    lost = tuple(
        Lost(
            job_id=row["job_id"],
            attempt_id=row["id"],
            checks=row["checks"],
            cancel_requested_at=row["cancel_requested_at"],
            attempt=_attempt(row),
        )
        for row in rows
        if row["is_lost"]
    )
    return Suspects(lost, tuple(_attempt(row) for row in rows if not row["is_lost"]))


def _attempt(row: Any) -> OpenAttempt:
    return OpenAttempt(
        attempt_id=row["id"],
        sent_from=row["sent_from"] or row["sent_at"],
        sent_at=row["sent_at"],
        start_seconds=row["start_seconds"],
        absent_at=row["absent_at"],
        fal_key_id=row["fal_key_id"],
        given=json.loads(row["input"]),
    )


async def find_known(db: Database, fal_request_ids: Collection[str]) -> set[str]:
    """Those of the ids that an attempt has."""
    async with db.plain() as plain:
        return {row["fal_request_id"] for row in await plain.fetch(_KNOWN, list(fal_request_ids))}


async def remember_absence(db: Database, attempt_ids: Sequence[UUID], absent_at: datetime | None) -> None:
    """When the list first did not name them; None: it may name them after all."""
    if not attempt_ids:
        return
    async with db.begin_plain() as plain:
        await plain.execute(_REMEMBER, attempt_ids, absent_at)


async def queue_again(db: Database, job: Claimed, *, now: datetime) -> bool:
    """Fal never had it: back to `queued`, by compare-and-set; its time there begins anew.

    False: it is known after all, or its caller has asked to cancel it.
    """
    async with db.begin_plain() as plain:
        await plain.execute(_LOCK_JOB, job.job_id)
        if await plain.fetchval(_STILL_LOST, job.attempt_id) is None:
            return False
        if await plain.fetchval(_HAS_A_REQUEST, job.job_id) is not None:
            return False
        if await plain.fetchval(_QUEUE_AGAIN, job.job_id, job.attempt_id, now) is None:
            return False
        await plain.execute(_ABSENT, job.attempt_id)
    return True


async def has_a_request(db: Database, job_id: UUID) -> bool:
    """Whether an attempt of the job has a fal request id, but for those ended by their start deadline."""
    async with db.plain() as plain:
        return await plain.fetchval(_HAS_A_REQUEST, job_id) is not None


async def note_absent(db: Database, attempt_id: UUID) -> None:
    """Remember on the attempt that fal never had it."""
    async with db.begin_plain() as plain:
        await plain.execute(_ABSENT, attempt_id)

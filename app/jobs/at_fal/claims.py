"""Taking jobs that are due: `FOR UPDATE SKIP LOCKED`, and the claim moves `next_check_at`, which is the lease."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.accounts.frozen import ALL_FROZEN, FROZEN_IDS
from app.db import CommitUnknown, Database
from app.fal import RequestRef
from app.jobs.at_fal.breaker import Limits
from app.jobs.at_fal.release import RELEASE_LOCK, choose, take_turns

LONGEST_INTERVAL_SECONDS: Final = 15.0
LEAST_START_SECONDS: Final = 2
"""fal takes no start deadline of a second or less (FAL.md 1.7)."""
UNCONFIRMED_EVERY_SECONDS: Final = 60.0
"""How often fal is asked about an `unconfirmed` job that it has an id for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A job that is ours to work on until its lease ends."""

    job_id: UUID
    attempt_id: UUID
    checks: int
    cancel_requested_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToSend(Claimed):
    """A job to send; `input` is what fal gets, as JSON text, `start_seconds` the start deadline it is sent with."""

    endpoint: str
    input: str
    start_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed(Claimed):
    """A job to ask fal about."""

    status: str
    gone_at: datetime | None
    submitted_at: datetime | None
    started_at: datetime | None
    queue_position: int | None
    fal_key_id: str
    attempt_outcome: str | None
    ref: RequestRef | None
    start_by: datetime | None
    """The start deadline that its caller asked for."""
    is_told: bool
    """Whether a webhook of its attempt is kept."""


# What its caller no longer waits for is never sent, as after an outage: it ends as soon as it is found (`overdue`).
_STILL_WAITED_FOR: Final = "(start_by IS NULL OR start_by >= $6)"
# Nor, for now, what is asked for by somebody who is frozen.
_NOT_FROZEN: Final = f"NOT {ALL_FROZEN} AND NOT ARRAY[team_id, user_id, key_id] && {FROZEN_IDS}"
_OLDEST_DUE: Final = f"""
    SELECT id, next_check_at AS place FROM jobs WHERE status = 'queued' AND next_check_at <= now()
      AND {_STILL_WAITED_FOR} AND {_NOT_FROZEN}
    ORDER BY next_check_at LIMIT $1 FOR UPDATE SKIP LOCKED"""  # noqa: S608  ours
_PICKED: Final = f"""
    SELECT j.id, p.place FROM unnest($1::uuid[]) WITH ORDINALITY AS p (id, place) JOIN jobs j ON j.id = p.id
    WHERE j.status = 'queued' AND j.next_check_at <= now() AND {_STILL_WAITED_FOR}
    FOR UPDATE OF j SKIP LOCKED"""  # noqa: S608  ours


def _sql_claim(locked: str) -> str:
    """Large inputs (images) are taken only as far as there is room for them in memory, but always the first."""
    return f"""
WITH locked AS MATERIALIZED ({locked}
), due AS (
    SELECT id FROM (
        SELECT l.id, row_number() OVER w AS n, sum(coalesce(pg_column_size(p.input), 0)) OVER w AS bytes
        FROM locked l LEFT JOIN payloads p ON p.job_id = l.id
        WINDOW w AS (ORDER BY l.place, l.id ROWS UNBOUNDED PRECEDING)
    ) l WHERE n = 1 OR bytes <= $4
), c AS (
    UPDATE jobs j SET status = 'submitting', attempt_id = gen_random_uuid(), version = j.version + 1,
           queue_position = NULL, estimated_start_at = NULL, next_check_at = now() + make_interval(secs => $2)
    FROM due WHERE j.id = due.id RETURNING j.*
), timed AS (
    SELECT c.*, least($5::int, CASE WHEN c.start_by IS NOT NULL THEN ceil(greatest({LEAST_START_SECONDS},
               extract(epoch FROM c.start_by - $6::timestamptz))) END)::int AS sent_seconds
    FROM c
), made AS (
    INSERT INTO attempts (id, job_id, sent_at, fal_key_id, start_seconds)
    SELECT attempt_id, id, now(), $3, sent_seconds FROM timed
)
SELECT c.id, c.attempt_id, c.checks, c.cancel_requested_at, c.endpoint, coalesce(p.input, c.input)::text AS input,
       c.sent_seconds
FROM timed c LEFT JOIN payloads p ON p.job_id = c.id
"""  # noqa: S608  ours


_CLAIM_OLDEST_DUE: Final = _sql_claim(_OLDEST_DUE)
_CLAIM_PICKED: Final = _sql_claim(_PICKED)
# Written so that the partial index serves: all four statuses, then without the one that only waits for its lease, and
# without those that fal's request list alone can name (`lost`).
_CLAIM_TRACKED: Final = """
WITH due AS MATERIALIZED (
    SELECT id FROM jobs
    WHERE status IN ('submitting', 'submitted', 'running', 'unconfirmed') AND status <> 'submitting'
      AND next_check_at <= now() AND fal_request_id IS NOT NULL
    ORDER BY next_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
), c AS (
    UPDATE jobs j SET checks = j.checks + 1,
           next_check_at = now() + make_interval(secs => CASE WHEN j.status = 'unconfirmed' THEN $4
               ELSE least($2 * 1.1 ^ least(j.checks, 100), greatest($2, $3)) END)
    FROM due WHERE j.id = due.id RETURNING j.*
)
SELECT c.id, c.attempt_id, c.checks, c.cancel_requested_at, c.status, c.gone_at, c.submitted_at, c.started_at,
       c.queue_position, c.start_by, a.fal_key_id, a.outcome, a.fal_request_id, a.status_path, a.result_path,
       a.cancel_path, EXISTS (SELECT FROM fal_webhooks w WHERE w.attempt_id = a.id) AS is_told
FROM c JOIN attempts a ON a.id = c.attempt_id
"""


async def claim_queued(
    db: Database,
    most: int,
    *,
    lease_seconds: float,
    fal_key_id: str,
    most_bytes: int,
    start_seconds: int,
    now: datetime,
    concurrency: int | None = None,
    limits: Limits | None = None,
) -> tuple[list[ToSend], float | None]:
    """Take jobs to send: `submitting`, with their attempts' rows.

    Oldest due first; with `concurrency` as many as fal has free slots, and with `limits` as many as the breaker lets
    go, by the rule of `release`.

    Each is sent with a start deadline of `start_seconds`, or of what is left at `now` of the one its caller asked for.

    Also returns a moment of `time.monotonic()` before they were committed, or None when nobody knows whether they
    were: then none may be sent.
    """
    given = lease_seconds, fal_key_id, most_bytes, start_seconds, now
    takes_any = concurrency is None and limits is None
    claimed: list[ToSend] = []
    before_commit: float | None = None
    try:
        async with db.begin_plain(first="" if takes_any else f"SELECT {RELEASE_LOCK}") as plain:
            if takes_any:
                rows = await plain.fetch(_CLAIM_OLDEST_DUE, most, *given)
            else:
                picked = await choose(plain, most, concurrency=concurrency, limits=limits)
                rows = await plain.fetch(_CLAIM_PICKED, picked, *given) if picked else []
                taken = {row["id"] for row in rows}
                if taken:
                    await take_turns(plain, [job_id for job_id in picked if job_id in taken])
            claimed = [_to_send(row) for row in rows]
            before_commit = time.monotonic()
    except CommitUnknown:
        before_commit = None
    return claimed, before_commit


async def claim_followed(db: Database, most: int, *, poll_seconds: float) -> list[Followed]:
    """Take jobs to ask fal about; the next check of each is set, so a check that finds nothing new is done.

    Here the lease is the interval: should a check outlast it, another replica may ask fal too, which only costs a
    call, since whatever they find moves the job once.
    """
    async with db.begin_plain(durable=False) as plain:
        rows = await plain.fetch(
            _CLAIM_TRACKED, most, poll_seconds, LONGEST_INTERVAL_SECONDS, UNCONFIRMED_EVERY_SECONDS
        )
    return [
        Followed(
            **_claimed(row),
            status=row["status"],
            gone_at=row["gone_at"],
            submitted_at=row["submitted_at"],
            started_at=row["started_at"],
            queue_position=row["queue_position"],
            fal_key_id=row["fal_key_id"],
            attempt_outcome=row["outcome"],
            ref=_ref(row) if row["fal_request_id"] else None,
            start_by=row["start_by"],
            is_told=row["is_told"],
        )
        for row in rows
    ]


def _to_send(row: Any) -> ToSend:
    return ToSend(**_claimed(row), endpoint=row["endpoint"], input=row["input"], start_seconds=row["sent_seconds"])


def _claimed(row: Any) -> dict[str, Any]:
    return {
        "job_id": row["id"],
        "attempt_id": row["attempt_id"],
        "checks": row["checks"],
        "cancel_requested_at": row["cancel_requested_at"],
    }


def _ref(row: Any) -> RequestRef:
    return RequestRef(row["fal_request_id"], row["status_path"], row["result_path"], row["cancel_path"])

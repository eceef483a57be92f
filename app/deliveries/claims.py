"""Taking deliveries that are due: a few of each target, and the claim moves `next_try_at`, which is the lease."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from app.db import Database
from app.deliveries.secrets import SQL_LIVE

A_TARGET: Final = 4
"""How many deliveries to one target this process sends at a time."""
LEASE_SECONDS: Final = 60.0
"""Longer than any try, its storing included."""

# From one target to the next along the index, whatever waits in between: many deliveries to one target cost no more
# than one. `$3` and `$4` say how many each of those targets may have, `$6` how many every other.
_CLAIM: Final = f"""
WITH RECURSIVE targets AS (
    (SELECT target FROM deliveries WHERE status = 'pending' AND target > $1 ORDER BY target LIMIT 1)
    UNION ALL
    SELECT (SELECT d.target FROM deliveries d WHERE d.status = 'pending' AND d.target > t.target
            ORDER BY d.target LIMIT 1)
    FROM targets t WHERE t.target IS NOT NULL
), due AS MATERIALIZED (
    SELECT d.id FROM targets t LEFT JOIN unnest($3::text[], $4::int[]) AS r (target, room) ON r.target = t.target
    CROSS JOIN LATERAL (
        SELECT l.id, row_number() OVER (ORDER BY l.next_try_at) AS n FROM (
            SELECT w.id, w.next_try_at FROM deliveries w
            WHERE w.status = 'pending' AND w.target = t.target AND w.next_try_at <= now()
            ORDER BY w.next_try_at LIMIT {A_TARGET} FOR UPDATE SKIP LOCKED
        ) l
    ) d
    WHERE t.target IS NOT NULL AND coalesce(r.room, $6::int) > 0 AND d.n <= coalesce(r.room, $6::int)
    LIMIT $2
), c AS (
    UPDATE deliveries d SET next_try_at = now() + make_interval(secs => {LEASE_SECONDS}), tries = d.tries + 1
    FROM due WHERE d.id = due.id RETURNING d.*
)
SELECT c.id, c.job_id, c.user_id, c.shape, c.url, c.target, c.body, c.tries, c.next_try_at AS lease_ends_at,
       ARRAY({SQL_LIVE.format(user="c.user_id", now="$5")}) AS sealed
FROM c ORDER BY c.target
"""  # noqa: S608  ours
# The last try comes when the delivery is given up, however long the pause before it would have been.
_STORE: Final = """
UPDATE deliveries SET
    status = CASE WHEN $3::text = 'pending' AND now() >= give_up_at - interval '1 minute' THEN 'failed'
                  ELSE $3::text END,
    next_try_at = CASE WHEN $3::text = 'pending' AND now() < give_up_at - interval '1 minute'
                       THEN least(now() + make_interval(secs => $4), give_up_at) END,
    response_status = $5, error = $6, tried_at = $7::timestamptz,
    delivered_at = CASE WHEN $3::text = 'delivered' THEN $7::timestamptz END
WHERE id = $1 AND status = 'pending' AND next_try_at = $2
"""
_GIVE_BACK: Final = """
UPDATE deliveries SET next_try_at = now(), tries = CASE WHEN $3::bool THEN tries ELSE greatest(tries - 1, 0) END
WHERE id = $1 AND status = 'pending' AND next_try_at = $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is ours to send until its lease ends; `tries` counts this one; `shape`: fal, slack, or none."""

    id: UUID
    job_id: UUID
    user_id: UUID
    shape: str | None
    url: str
    target: str
    body: str = field(repr=False)
    tries: int
    lease_ends_at: datetime
    sealed: Sequence[bytes] = field(repr=False)


async def claim_due(
    db: Database, most: int, *, after: str, rooms: Mapping[str, int], others: int, now: datetime
) -> list[Claimed]:
    """Take at most so many deliveries, of targets that sort after `after`, in the order of their targets.

    `rooms` says how many each of these targets may have now; all `others` may have so many, `A_TARGET` at most.
    """
    async with db.begin_plain(durable=False) as plain:
        rows = await plain.fetch(_CLAIM, after, most, list(rooms), list(rooms.values()), now, others)
    return [Claimed(**dict(row)) for row in rows]


async def store_try(
    db: Database,
    claimed: Claimed,
    *,
    status: str,
    delay_seconds: float,
    response_status: int | None,
    error: str | None,
    now: datetime,
) -> None:
    """What a try came to, if its lease stands; `pending` becomes `failed` when its day is over."""
    async with db.begin_plain(durable=False) as plain:
        await plain.execute(
            _STORE, claimed.id, claimed.lease_ends_at, status, delay_seconds, response_status, error, now
        )


async def give_back(db: Database, claimed: Claimed, *, was_sent: bool) -> None:
    """Let somebody else send it at once; the try counts if anything went out."""
    async with db.begin_plain(durable=False) as plain:
        await plain.execute(_GIVE_BACK, claimed.id, claimed.lease_ends_at, was_sent)

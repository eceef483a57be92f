"""Where queued jobs stand under FAL_CONCURRENCY: `queue_position` and `estimated_start_at`, written down now and then.

Both say what would be if nothing were submitted, cancelled or ended meanwhile: a guess, and shown as one.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.db import Lock, Plain
from app.jobs.at_fal.release import IN_FLIGHT, sql_lines
from app.jobs.reads.hub import Hub
from app.loop import Loop
from app.wiring import Wiring

_EVERY_SECONDS: Final = 2.0
_SHARE_OF_TIME: Final = 20  # the larger the queue the more seldom: a twentieth of the time at most
_MOST_ROWS: Final = 2000
_MEANS_FOR_SECONDS: Final = 30.0
_MEANS_OF: Final = 50
_RECENT: Final = timedelta(days=7)

# A queue grows faster than the statistics: planned for few rows, the joins below would take a second for 10,000.
_AS_IF_MANY: Final = "SET LOCAL enable_nestloop = off"
# While fal takes no jobs, nobody knows when one will start.
_MAY_I: Final = f"""
SELECT pg_try_advisory_xact_lock({Lock.STANDING}) AND EXISTS (SELECT FROM jobs WHERE status = 'queued') AS may,
       EXISTS (SELECT FROM upstream WHERE degraded_since IS NOT NULL) AS is_degraded
"""  # noqa: S608  ours
_SLOTS: Final = f"""
SELECT model, extract(epoch FROM $1::timestamptz - submitted_at)::float8 AS seconds FROM jobs WHERE {IN_FLIGHT}
"""  # noqa: S608  ours
_MEANS: Final = """
SELECT m.model, avg(extract(epoch FROM j.finished_at - j.submitted_at))::float8 AS seconds
FROM unnest($1::text[]) AS m (model) CROSS JOIN LATERAL (
    SELECT finished_at, submitted_at FROM jobs
    WHERE finished_at IS NOT NULL AND finished_at > $3 AND status = 'succeeded' AND model = m.model
    ORDER BY finished_at DESC LIMIT $2
) j GROUP BY m.model
"""
# The rule of `release.pick` for all queued jobs at once. $1: how many slots there are; $2, $3: models, and how many
# seconds their jobs take; $4: now; $5: in how many seconds each slot is free, none where that is unknown; $6: how many
# rows to write at the most.
# - users, teams: who waits, with what is in flight, and a `rank` among equals: by the last turn, then by age.
# - by_user: a user's n-th job goes when its user has `in_user` in flight.
# - by_team: a team's jobs in their order: the least `in_user` first; of equals the least n, since its user has had the
#   fewest turns from now on, so its last is longest ago; of equal n the least rank.
# - placed: teams among each other likewise. `ahead`: how long those before it take, on average.
# - told: the job at position p takes the slot that is the (p mod $1)-th to be free, after p / $1 jobs before it there.
# - changed: places far back change with each job that goes, so a place is written again when it is off by a twentieth,
#   a moment when it is off by more than ten seconds and more than a tenth of the wait.
# - mine: those that nobody else is moving just now.
_PLACE: Final = f"""
WITH RECURSIVE flying AS MATERIALIZED (
    SELECT team_id, user_id, count(*)::int AS n FROM jobs WHERE {IN_FLIGHT} GROUP BY team_id, user_id
), line AS ({sql_lines()}
), users AS MATERIALIZED (
    SELECT l.team_id, l.user_id, coalesce(f.n, 0) AS in_flight, h.id AS first,
           row_number() OVER (PARTITION BY l.team_id ORDER BY t.taken_at NULLS FIRST, h.id)::int AS rank
    FROM line l CROSS JOIN LATERAL (
        SELECT j.id FROM jobs j WHERE j.status = 'queued' AND j.team_id = l.team_id AND j.user_id = l.user_id
        ORDER BY j.id LIMIT 1) h
    LEFT JOIN flying f ON f.team_id = l.team_id AND f.user_id = l.user_id
    LEFT JOIN turns t ON t.subject_id = l.user_id
), teams AS MATERIALIZED (
    SELECT h.team_id, coalesce(f.n, 0) AS in_flight,
           row_number() OVER (ORDER BY t.taken_at NULLS FIRST, h.first)::int AS rank
    FROM (SELECT DISTINCT ON (team_id) team_id, first FROM users ORDER BY team_id, in_flight, rank) h
    LEFT JOIN (SELECT team_id, sum(n)::int AS n FROM flying GROUP BY team_id) f ON f.team_id = h.team_id
    LEFT JOIN turns t ON t.subject_id = h.team_id
), by_user AS (
    SELECT j.id, j.team_id, j.model, j.queue_position, j.estimated_start_at,
           u.rank, row_number() OVER w AS n, u.in_flight + row_number() OVER w AS in_user
    FROM jobs j JOIN users u ON u.team_id = j.team_id AND u.user_id = j.user_id WHERE j.status = 'queued'
    WINDOW w AS (PARTITION BY j.team_id, j.user_id ORDER BY j.id)
), by_team AS (
    SELECT u.id, u.model, u.queue_position, u.estimated_start_at,
           t.rank, row_number() OVER w AS n, t.in_flight + row_number() OVER w AS in_team
    FROM by_user u JOIN teams t ON t.team_id = u.team_id
    WINDOW w AS (PARTITION BY u.team_id ORDER BY u.in_user, u.n, u.rank)
), placed AS (
    SELECT b.id, b.queue_position, b.estimated_start_at, row_number() OVER w - 1 AS position,
           avg(m.seconds) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ahead
    FROM by_team b LEFT JOIN unnest($2::text[], $3::float8[]) AS m (model, seconds) ON m.model = b.model
    WINDOW w AS (ORDER BY b.in_team, b.n, b.rank)
), told AS (
    SELECT id, position, queue_position AS told_position, estimated_start_at AS told_at, $4::timestamptz AS now,
           $4 + make_interval(secs => ($5::float8[])[position % $1::int + 1]
                + CASE WHEN position < $1 THEN 0 ELSE ahead * (position / $1) END) AS starts_at
    FROM placed
), changed AS MATERIALIZED (
    SELECT id, position, starts_at FROM told
    WHERE told_position IS NULL OR abs(position - told_position) * 20 > position
       OR (starts_at IS NULL) <> (told_at IS NULL)
       OR abs(extract(epoch FROM starts_at - told_at)) > greatest(10, extract(epoch FROM starts_at - now) / 10)
    ORDER BY position LIMIT $6
), mine AS MATERIALIZED (
    SELECT j.id FROM jobs j JOIN changed c ON c.id = j.id
    WHERE j.status = 'queued' ORDER BY j.id FOR UPDATE OF j SKIP LOCKED
)
UPDATE jobs j SET queue_position = c.position, estimated_start_at = date_trunc('second', c.starts_at),
       version = j.version + 1
FROM changed c JOIN mine ON mine.id = c.id
WHERE j.id = c.id AND j.status = 'queued'
RETURNING j.id
"""  # noqa: S608  ours
_FORGET: Final = """
UPDATE jobs SET queue_position = NULL, estimated_start_at = NULL, version = version + 1
WHERE id IN (SELECT id FROM jobs WHERE status = 'queued' AND queue_position IS NOT NULL
             ORDER BY id FOR UPDATE SKIP LOCKED)
RETURNING id
"""


class Standing:
    """One a process; one at a time writes, whichever comes first."""

    def __init__(self, wiring: Wiring, hub: Hub) -> None:
        self._wiring = wiring
        self._hub = hub
        self._concurrency = wiring.settings.fal_concurrency
        self._models = sorted({endpoint.model for endpoint in wiring.catalogue.endpoints})
        self._means: dict[str, float] = {}
        self._means_until = 0.0
        self._not_before = 0.0
        self.loop = Loop("standing", self._turn, places=1, rest_seconds=_EVERY_SECONDS)

    async def _turn(self, _free: int) -> int:
        began = time.monotonic()
        if began < self._not_before:
            return 0
        if self._concurrency is None:
            self._hub.announce(await self._forget())
            self._not_before = float("inf")
            return 0
        self._hub.announce(await self.write_places(self._concurrency))
        self._not_before = time.monotonic() + (time.monotonic() - began) * _SHARE_OF_TIME
        return 0

    async def _forget(self) -> list[UUID]:
        """Places from a time when FAL_CONCURRENCY was set are no longer true."""
        async with self._wiring.db.begin_plain(durable=False) as plain:
            return [row["id"] for row in await plain.fetch(_FORGET)]

    async def write_places(self, concurrency: int) -> list[UUID]:
        """Write down where queued jobs stand, nearest first; returns those that changed, 2,000 at most."""
        means = await self._read_means()
        async with self._wiring.db.begin_plain(durable=False, first=_AS_IF_MANY) as plain:
            may, is_degraded = await plain.fetchrow(_MAY_I)  # type: ignore[misc]  # always one row
            if not may:
                return []
            now = self._wiring.clock()
            slots = await _free_in(plain, concurrency, means, now=now) if means and not is_degraded else []
            rows = await plain.fetch(_PLACE, concurrency, list(means), list(means.values()), now, slots, _MOST_ROWS)
        return [row["id"] for row in rows]

    async def _read_means(self) -> dict[str, float]:
        """Seconds that the last succeeded jobs of each model took at fal, on average; no entry: nothing is known."""
        if time.monotonic() >= self._means_until:
            async with self._wiring.db.plain() as plain:
                rows = await plain.fetch(_MEANS, self._models, _MEANS_OF, self._wiring.clock() - _RECENT)
            self._means = {row["model"]: row["seconds"] for row in rows}
            self._means_until = time.monotonic() + _MEANS_FOR_SECONDS
        return self._means


async def _free_in(plain: Plain, concurrency: int, means: dict[str, float], *, now: datetime) -> list[float]:
    """In how many seconds each slot will be free, soonest first. A model that is not known takes as long as others."""
    rows: Sequence[Any] = await plain.fetch(_SLOTS, now)
    typical = sum(means.values()) / len(means)
    taken = sorted(max(means.get(row["model"], typical) - (row["seconds"] or 0), 0) for row in rows)
    return [0.0] * (concurrency - len(taken)) + taken[-concurrency:]

"""Who goes next when fal's slots are fewer than the jobs: the team with the fewest in flight, then its user, then age.

A slot is taken by a job that is `submitting`, `submitted` or `running`. This is counted from the rows each time, so no
count can go wrong. `unconfirmed` takes none: nobody knows whether fal has it, and a lost answer must not keep a slot
from everybody for hours. Should fal have it after all, it has one job too many for a while, which it queues
itself (FAL.md 2.5: submits are never refused for concurrency).

Of teams, and of users in a team, that have equally many in flight, the one goes whose last turn is longest ago; only
then does the job's age decide. By age alone whoever has a thousand jobs waiting would get each slot that its own job
left, for it has then as few in flight as everybody else, and older jobs.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from app.accounts.frozen import ALL_FROZEN, FROZEN_IDS
from app.db import Lock, Plain
from app.jobs.at_fal.breaker import Limits, read_breaker

RELEASE_LOCK: Final = f"pg_advisory_xact_lock({Lock.RELEASE})"
"""Whoever decides on the slots holds it until that is committed, so that two replicas do not both give the last one.

Take it with BEGIN: a statement's snapshot is older than the locks that it waits for.
"""

_ENDLESS: Final = 1_000_000_000
IN_FLIGHT: Final = "status IN ('submitting', 'submitted', 'running', 'unconfirmed') AND status <> 'unconfirmed'"
"""The jobs that take a slot, written so that jobs_tracked_idx serves."""


def _sql_turn(subject: str) -> str:
    """When this team or user was last given a slot, in microseconds; 0: never."""
    microseconds = "extract(epoch FROM t.taken_at) * 1000000"
    return f"coalesce((SELECT {microseconds} FROM turns t WHERE t.subject_id = {subject}), 0)::bigint"  # noqa: S608  ours


def sql_lines(condition: str = "true") -> str:
    """The body of a recursive `line (team_id, user_id)`: every user, in a team, with queued jobs.

    It walks from one to the next along jobs_release_idx, so it costs by the users that wait, not by their jobs.
    """
    return f"""
    (SELECT team_id, user_id FROM jobs WHERE status = 'queued' AND {condition} ORDER BY team_id, user_id LIMIT 1)
    UNION ALL
    SELECT n.team_id, n.user_id FROM line l CROSS JOIN LATERAL (
        SELECT j.team_id, j.user_id FROM jobs j
        WHERE j.status = 'queued' AND (j.team_id, j.user_id) > (l.team_id, l.user_id)
        ORDER BY j.team_id, j.user_id LIMIT 1) n"""  # noqa: S608  ours


# `$1` and `$2`: so many at most, and so many slots in all. `$3`, `$4`: of every line, or of these users', only the next
# job is looked at, since it will have to wait: what a breaker holds back for an hour is not read again and again.
_LINES: Final = f"""
WITH RECURSIVE flying AS MATERIALIZED (
    SELECT team_id, user_id, count(*)::int AS n FROM jobs WHERE {IN_FLIGHT} GROUP BY team_id, user_id
), room AS MATERIALIZED (
    SELECT least($1::int, $2::int - coalesce(sum(n), 0)::int) AS slots FROM flying
), frozen AS MATERIALIZED (
    SELECT {FROZEN_IDS} AS ids
), line AS ({sql_lines(f"(SELECT slots FROM room) > 0 AND NOT {ALL_FROZEN}")}
)
SELECT team_id, user_id, n AS in_flight, 0::bigint AS team_turn, 0::bigint AS user_turn, '{{}}'::uuid[] AS waiting
FROM flying
UNION ALL
SELECT team_id, user_id, 0, {_sql_turn("l.team_id")}, {_sql_turn("l.user_id")}, ARRAY(
    SELECT j.id FROM jobs j
    WHERE j.status = 'queued' AND j.team_id = l.team_id AND j.user_id = l.user_id AND j.next_check_at <= now()
      AND j.key_id <> ALL (f.ids)
    ORDER BY j.id LIMIT CASE WHEN $3 OR l.user_id = ANY($4) THEN 1 ELSE (SELECT slots FROM room) END)
FROM line l, frozen f WHERE NOT ARRAY[l.team_id, l.user_id] && f.ids
"""  # noqa: S608  ours


_TAKE_TURNS: Final = """
INSERT INTO turns (subject_id, taken_at)
SELECT s.subject_id, max(clock_timestamp() + p.place * interval '1 microsecond')
FROM unnest($1::uuid[]) WITH ORDINALITY AS p (id, place) JOIN jobs j ON j.id = p.id
CROSS JOIN LATERAL (VALUES (j.team_id), (j.user_id)) AS s (subject_id)
GROUP BY s.subject_id
ON CONFLICT (subject_id) DO UPDATE SET taken_at = excluded.taken_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One user's jobs in one team: how many are in flight, and the ids of the oldest that are due, oldest first.

    `team_turn` and `user_turn` grow with the moment of the last turn; 0: there was none.
    """

    team_id: UUID
    user_id: UUID
    in_flight: int = 0
    team_turn: int = 0
    user_turn: int = 0
    waiting: Sequence[UUID] = ()


async def choose(plain: Plain, most: int, *, concurrency: int | None, limits: Limits | None = None) -> Sequence[UUID]:
    """The jobs to send now: at most `most`, no more than fal has free slots, and not dearer than the breaker's limits.

    RELEASE_LOCK must be held.
    """
    slots_in_all = _ENDLESS if concurrency is None else concurrency
    breaker = None if limits is None else await read_breaker(plain, limits)
    spent_up = (breaker.is_spent_up, breaker.spent_up) if breaker else (False, [])
    lines = [Line(**row) for row in await plain.fetch(_LINES, most, slots_in_all, *spent_up)]
    slots = min(most, slots_in_all - sum(line.in_flight for line in lines))
    if breaker is None:
        return pick(lines, slots)
    await breaker.read_quotes(plain, [job_id for line in lines for job_id in line.waiting])
    fitting = [replace(line, waiting=breaker.of_user(line.user_id, line.waiting)) for line in lines]
    chosen = breaker.of_all(pick(fitting, slots))
    await breaker.note(plain)
    return chosen


async def take_turns(plain: Plain, job_ids: Sequence[UUID]) -> None:
    """Remember that these jobs' teams and users had their turns, in this order. RELEASE_LOCK must be held."""
    await plain.execute(_TAKE_TURNS, job_ids)


def pick(lines: Iterable[Line], slots: int) -> list[UUID]:
    """Who goes next, in this order; each one picked is in flight, and had its turn, for those after it.

    Lines of one user in one team add up; only one of them may have jobs that wait.
    """
    lines = list(lines)
    of_team: Counter[UUID] = Counter()
    of_user: Counter[tuple[UUID, UUID]] = Counter()
    for line in lines:
        of_team[line.team_id] += line.in_flight
        of_user[line.team_id, line.user_id] += line.in_flight
    turn = max((max(line.team_turn, line.user_turn) for line in lines), default=0)
    users: dict[UUID, list[tuple[int, int, UUID, deque[UUID]]]] = {}  # each heap's least goes next
    teams: dict[UUID, tuple[int, int]] = {}
    for line in lines:
        if line.waiting:
            entry = of_user[line.team_id, line.user_id], line.user_turn, line.waiting[0], deque(line.waiting)
            users.setdefault(line.team_id, []).append(entry)
            teams[line.team_id] = of_team[line.team_id], line.team_turn
    for heap in users.values():
        heapq.heapify(heap)
    heads = [(*standing, users[team_id][0][2], team_id) for team_id, standing in teams.items()]
    heapq.heapify(heads)
    picked: list[UUID] = []
    while heads and len(picked) < slots:
        in_team, _, job_id, team_id = heapq.heappop(heads)
        in_user, _, _, jobs = heapq.heappop(users[team_id])
        picked.append(job_id)
        jobs.popleft()
        turn += 1
        if jobs:
            heapq.heappush(users[team_id], (in_user + 1, turn, jobs[0], jobs))
        if users[team_id]:
            heapq.heappush(heads, (in_team + 1, turn, users[team_id][0][2], team_id))
    return picked

"""Submits that were refused: counted while they are answered, written beside them, one row for an hour of equal ones.

No money: a process that is killed loses the counts of its last second, and a flush whose COMMIT went unanswered may be
written twice.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from app.accounts.callers import Caller
from app.db import Database
from app.ids import parse
from app.problems import Problem

# Sorted, so that replicas which write the same rows lock them in one order.
_WRITE: Final = """
INSERT INTO refusals AS r (hour, team_id, user_id, code, quota_id, times)
SELECT * FROM unnest($1::timestamptz[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::bigint[])
    AS n (hour, team_id, user_id, code, quota_id, times)
ORDER BY hour, team_id, user_id, code, quota_id
ON CONFLICT ON CONSTRAINT refusals_one_key DO UPDATE SET times = r.times + excluded.times
"""


class _Refused(NamedTuple):
    """What is counted together. `hour` is when it begins, in UTC."""

    hour: datetime
    team_id: UUID
    user_id: UUID
    code: str
    quota_id: UUID | None


class RefusalCounts:
    """Refusals since the last flush; one for each process. Grows with who is refused and why, not with how often."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._times: Counter[_Refused] = Counter()

    def count(self, problem: Problem, *, team_id: UUID, user_id: UUID) -> None:
        """One submit of this user's was refused: once for each quota that blocks it. Costs no database call."""
        hour = self._clock().astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        self._times.update(
            _Refused(hour, team_id, user_id, problem.code, quota_id) for quota_id in _blocking_quotas(problem)
        )

    def count_caller(self, caller: Caller, problem: Problem) -> None:
        """As `count`."""
        self.count(problem, team_id=caller.team_id, user_id=caller.user_id)

    async def flush(self, db: Database) -> None:
        """Write what was counted, in one statement; should that fail, it is kept for the next time."""
        if not self._times:
            return
        times, self._times = self._times, Counter()
        try:
            async with db.begin_plain(durable=False) as plain:
                await plain.execute(_WRITE, *map(list, zip(*times, strict=True)), list(times.values()))
        except BaseException:
            self._times.update(times)
            raise


def _blocking_quotas(problem: Problem) -> Iterator[UUID | None]:
    """The `quotas` of a refusal by quotas; None for any other."""
    quotas = problem.members.get("quotas")
    if not isinstance(quotas, list):
        yield None
        return
    for quota in quotas:
        yield parse("quota", quota["quota_id"])

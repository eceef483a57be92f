"""Direct calls that are waited for: whose caller is there, and whose has gone, by hanging up or with its gateway.

While its caller is there a direct call is nobody else's: an equal one is another job. But Python sends one up to ten
times when its connection breaks (FAL.md 4.1), and each would be paid for. So each is kept in a row that names the
process that waits, from its acceptance until its answer is written; an equal call takes over the oldest that nobody
waits for any more: its caller hung up, or its process has no connection to the database left, as after a kill.

What remains: behind a pooler that hides who is connected another replica's calls look left alone, so that equal ones at
two replicas at once are one; and a process whose host has vanished counts as there until Postgres notices.
"""

import itertools
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.accounts.callers import CALLER_FROM, sql_live
from app.compat.line import Line
from app.db import is_database_away
from app.wiring import Wiring

log = logging.getLogger("falgate.repeats")

_PROCESS: Final = "split_part(d.waited_by, '/', 1)"
_TAKE_OVER: Final = f"""
WITH left_alone AS (
    SELECT d.job_id FROM {CALLER_FROM} JOIN direct_calls d ON d.user_id = u.id AND d.key = $3
    JOIN jobs j ON j.id = d.job_id
    WHERE s.hash = $1 AND {sql_live("$2")} AND (j.finished_at IS NULL OR j.finished_at > $4)
      AND (d.waited_by IS NULL OR NOT CASE WHEN {_PROCESS} = $5 THEN d.waited_by = ANY ($6::text[]) ELSE EXISTS (
          SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.application_name = {_PROCESS}) END)
    ORDER BY d.job_id LIMIT 1 FOR UPDATE OF d SKIP LOCKED
)
UPDATE direct_calls d SET waited_by = $7 FROM left_alone l WHERE d.job_id = l.job_id RETURNING d.job_id
"""  # noqa: S608  every part is ours
_BEGIN: Final = """
WITH remembered AS (
    DELETE FROM idempotency_keys i USING jobs j
    WHERE j.id = $1 AND i.user_id = j.user_id AND i.key = $2 AND i.job_id = $1
)
INSERT INTO direct_calls (job_id, user_id, key, waited_by) SELECT id, user_id, $2, $3 FROM jobs WHERE id = $1
ON CONFLICT DO NOTHING
"""
_LEAVE: Final = "UPDATE direct_calls SET waited_by = NULL WHERE job_id = $1 AND waited_by = $2"
_END: Final = "DELETE FROM direct_calls WHERE job_id = $1 AND waited_by = $2"


@dataclass(frozen=True, slots=True)
class Wait:
    """One caller that waits for one job; `name` begins with its process."""

    job_id: UUID
    name: str


class Waits:
    """Those of one process. Of equal calls only one at a time may take over or begin."""

    def __init__(self, wiring: Wiring, *, last: timedelta) -> None:
        """What has ended can be taken over for as long as `last`."""
        self._wiring = wiring
        self._last = last
        self._numbers = itertools.count(1)
        self._lines: dict[str, Line] = {}

    async def take_over(self, secret_hash: bytes, key: str, line: Line) -> Wait | None:
        """The oldest call by this key's user, remembered as `key`, that nobody waits for; None: there is none."""
        now, name, process = self._wiring.clock(), self._new_name(), self._wiring.db.name
        there = [name for name, line in self._lines.items() if not line.is_gone]
        async with self._wiring.db.begin_plain() as plain:
            oldest = now - self._last
            job_id = await plain.fetchval(_TAKE_OVER, secret_hash, now, key, oldest, process, there, name)
        return None if job_id is None else self._begun(Wait(job_id, name), line)

    async def begin(self, job_id: UUID, key: str, line: Line) -> Wait:
        """The caller waits for this job, which was an idempotency key's until now."""
        wait = Wait(job_id, self._new_name())
        async with self._wiring.db.begin_plain() as plain:
            await plain.execute(_BEGIN, job_id, key, wait.name)
        return self._begun(wait, line)

    async def leave(self, wait: Wait) -> None:
        """Its caller has gone without an answer; at other replicas not while the database is away."""
        if self._lines.pop(wait.name, None) is not None:
            await self._write(_LEAVE, wait)

    async def end(self, wait: Wait) -> None:
        """Its caller has its answer. While the database is away an equal call will be told of it for a while."""
        await self._write(_END, wait)
        self._lines.pop(wait.name, None)

    def _new_name(self) -> str:
        return f"{self._wiring.db.name}/{next(self._numbers)}"

    def _begun(self, wait: Wait, line: Line) -> Wait:
        self._lines[wait.name] = line
        return wait

    async def _write(self, statement: str, wait: Wait) -> None:
        try:
            async with self._wiring.db.begin_plain() as plain:
                await plain.execute(statement, wait.job_id, wait.name)
        except Exception as error:
            if not is_database_away(error):
                raise
            log.warning("nobody waits for job_%s any more, but that could not be written", wait.job_id.hex)

"""Keeping what models write while they run: new lines alone, those that come together in one statement."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.db import is_database_away
from app.fal import Completed, InProgress, LogLine, StatusOutcome, Trouble
from app.jobs.at_fal.claims import Followed
from app.jobs.group import Group
from app.jobs.reads.hub import Hub
from app.wiring import Wiring

log = logging.getLogger("falgate.log")

_MOST_REMEMBERED: Final = 10_000
_TOGETHER: Final = 16

# The jobs' rows are locked first, by their ids: whoever erases one meanwhile is waited for, and then nothing is kept of
# it. Whoever keeps a line second keeps nothing. The number of a line is its place in fal's log, from 1.
_KEEP: Final = """
WITH mine AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = ANY($1) AND payload_erased_at IS NULL ORDER BY id FOR KEY SHARE
)
INSERT INTO job_logs (job_id, n, logged_at, level, source, message)
SELECT l.* FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[]) AS l (job_id, n)
JOIN mine ON mine.id = l.job_id
ORDER BY l.job_id, l.n
ON CONFLICT DO NOTHING RETURNING job_id
"""


@dataclass(frozen=True, slots=True)
class _News:
    job_id: UUID
    after: int
    lines: Sequence[LogLine]


class LogKeeper:
    """One a process. It remembers how many lines of a job are kept, so that a log without news costs nothing."""

    def __init__(self, wiring: Wiring, hub: Hub) -> None:
        self._db = wiring.db
        self._hub = hub
        self._kept: OrderedDict[UUID, int] = OrderedDict()
        self._unreadable: set[UUID] = set()
        self._group = Group[_News, bool](self._write, most=_TOGETHER, sizes=wiring.metrics.group_size.labels("log"))

    def asks_for(self, job: Followed) -> bool:
        """Whether its status is to be read with its log: not once after that came to nothing, since it may be the log.

        Too long a log, say, must not hide that the job has ended.
        """
        return job.attempt_id not in self._unreadable

    async def keep(self, job: Followed, outcome: StatusOutcome) -> None:
        """Keep what is new in a status that was read, and tell whoever follows the job. A log never stops a job."""
        if isinstance(outcome, Trouble) and self.asks_for(job):
            if len(self._unreadable) >= _MOST_REMEMBERED:
                self._unreadable.clear()
            self._unreadable.add(job.attempt_id)
            return
        self._unreadable.discard(job.attempt_id)
        if not isinstance(outcome, InProgress | Completed):
            return
        after = self._kept.get(job.attempt_id, 0)
        if len(outcome.lines) > after:
            await self._keep(job, _News(job.job_id, after, outcome.lines[after:]))
        if isinstance(outcome, Completed):
            self._kept.pop(job.attempt_id, None)

    async def _keep(self, job: Followed, news: _News) -> None:
        try:
            if await self._group(news):
                self._hub.announce([job.job_id])
        except Exception as error:
            if is_database_away(error):
                raise
            log.exception("the log of job_%s could not be kept", job.job_id.hex)
        self._kept[job.attempt_id] = news.after + len(news.lines)
        self._kept.move_to_end(job.attempt_id)
        if len(self._kept) > _MOST_REMEMBERED:
            self._kept.popitem(last=False)

    async def _write(self, batch: Sequence[_News]) -> list[bool | Exception]:
        rows = [
            (news.job_id, n, line.logged_at, line.level, line.source, line.message)
            for news in batch
            for n, line in enumerate(news.lines, news.after + 1)
        ]
        async with self._db.begin_plain(durable=False) as plain:
            kept = await plain.fetch(_KEEP, *(list(column) for column in zip(*rows, strict=True)))
        of = {row["job_id"] for row in kept}
        return [news.job_id in of for news in batch]

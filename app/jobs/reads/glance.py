"""Where one job stands, for callers of fal's own protocol, who ask ten times a second: few columns, by one statement.

It hides from finance what is not its own: in fal's protocol a job is told with what it was made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.accounts.callers import KeyUnknown
from app.accounts.last_used import LastUsed
from app.db import Database
from app.jobs.group import Group
from app.jobs.reads.log_reading import sql_entry
from app.jobs.reads.reach import NOT_FOUND_DETAIL, sql_reached
from app.jobs.reads.read import Asked
from app.problems import NotFound

_READ: Final = f"""
SELECT c.key_id, c.is_stale, j.user_id = c.user_id AS is_own, j.end_user,
       j.endpoint, j.status, j.started_at IS NOT NULL, j.queue_position, j.inference_seconds,
       CASE WHEN r.with_log THEN
           ARRAY(SELECT {sql_entry("l")}::text FROM job_logs l WHERE l.job_id = j.id ORDER BY l.n) END,
       CASE WHEN r.with_result THEN j.output::text END,
       CASE WHEN j.status IN ('failed', 'canceled') THEN j.error::text END,
       CASE WHEN r.with_result OR j.status IN ('failed', 'canceled') THEN j.fal_reply::text END
FROM unnest($1::bytea[], $2::uuid[], $4::bool[], $5::bool[]) WITH ORDINALITY
     AS r (hash, job_id, with_log, with_result, n)
{sql_reached("$3")}
     AND (c.role <> 'finance' OR j.user_id = c.user_id)
ORDER BY r.n
"""  # noqa: S608  every part is ours


@dataclass(frozen=True, slots=True)
class Glance:
    """A job's standing; JSON is text. `entries` (LogEntries) and `output` are there where they were asked for.

    `error` and `fal_reply` are those of a job that did not succeed; with its output, a success has its `fal_reply` too.
    """

    endpoint: str
    status: str
    has_started: bool
    queue_position: int | None
    inference_seconds: float | None
    entries: list[str] | None
    output: str | None
    error: str | None
    fal_reply: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who asks for which job, and for how much of it."""

    asked: Asked
    with_log: bool = False
    with_result: bool = False


class Glances:
    """Never a cache: each answer was read after it was asked for."""

    def __init__(self, db: Database, last_used: LastUsed) -> None:
        self._db = db
        self._last_used = last_used
        self._group = Group[Wanted, Glance](self._read)

    async def read(self, wanted: Wanted) -> Glance:
        """Raises KeyUnknown, or NotFound for a job that is not there or not theirs."""
        return await self._group(wanted)

    async def _read(self, batch: Sequence[Wanted]) -> list[Glance | Exception]:
        async with self._db.plain() as plain:
            rows = await plain.fetch(
                _READ,
                [wanted.asked.secret_hash for wanted in batch],
                [wanted.asked.job_id for wanted in batch],
                max(wanted.asked.now for wanted in batch),
                [wanted.with_log for wanted in batch],
                [wanted.with_result for wanted in batch],
            )
        return [self._outcome(wanted.asked, row) for wanted, row in zip(batch, rows, strict=True)]

    def _outcome(self, asked: Asked, row: Any) -> Glance | Exception:
        key_id, is_stale, is_own, end_user, endpoint, *rest = row
        if key_id is None:
            return KeyUnknown()
        if is_stale:
            self._last_used.saw(key_id)
        if endpoint is None or not asked.shows(is_own=is_own, end_user=end_user):
            return NotFound(NOT_FOUND_DETAIL)
        return Glance(endpoint, *rest)

"""Reading what a job wrote at fal: key, role and owner are checked by the statement that reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, Field

from app.accounts.callers import KeyUnknown, RoleForbidden
from app.db import Database
from app.jobs.group import Group
from app.jobs.reads.reach import NOT_FOUND_DETAIL, sql_reached
from app.jobs.reads.read import Asked
from app.problems import NotFound

_TOGETHER: Final = 16


class LogEntry(BaseModel):
    """One line of what the model wrote."""

    timestamp: str | None = Field(description="When, in fal's own words.")
    level: str = Field(description="fal's own: STDERR, STDOUT, ERROR, INFO, WARN or DEBUG.")
    source: str
    message: str


def sql_entry(line: str) -> str:
    """The SQL that writes a row of `job_logs` as a LogEntry, in JSON; fal's own form of it too (FAL.md 1.3)."""
    members = ("message", "level", "source")
    listed = ", ".join(f"'{name}', {line}.{name}" for name in members)
    return f"json_build_object({listed}, 'timestamp', {line}.logged_at)"


# A line's number is its place, from 1, so that a range of them is as good as a limit.
_READ: Final = f"""
SELECT c.key_id, c.role = 'finance' AND j.user_id <> c.user_id AS is_hidden, j.user_id = c.user_id AS is_own,
       j.end_user, j.id IS NOT NULL AS is_there,
       ARRAY(SELECT {sql_entry("l")}::text FROM job_logs l
             WHERE l.job_id = j.id AND l.n > r.after AND l.n <= r.after + r.most ORDER BY l.n) AS entries
FROM unnest($1::bytea[], $2::uuid[], $4::int[], $5::int[]) WITH ORDINALITY AS r (hash, job_id, after, most, place)
{sql_reached("$3")}
ORDER BY r.place
"""  # noqa: S608  every part is ours


@dataclass(frozen=True, slots=True)
class _Wanted:
    asked: Asked
    after: int
    most: int


class LogReader:
    """Never a cache. Those who follow many jobs are answered by one statement."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._group = Group[_Wanted, list[str]](self._read, most=_TOGETHER)

    async def read(self, asked: Asked, *, after: int, most: int) -> list[str]:
        """At most so many LogEntries, as JSON texts, from the line after the `after`-th on.

        Raises KeyUnknown, NotFound for a job that is not there or not theirs, and RoleForbidden: finance reads jobs of
        all with their inputs hidden, and a log may repeat an input.
        """
        return await self._group(_Wanted(asked, after, most))

    async def _read(self, batch: Sequence[_Wanted]) -> list[list[str] | Exception]:
        async with self._db.plain() as plain:
            rows = await plain.fetch(
                _READ,
                [wanted.asked.secret_hash for wanted in batch],
                [wanted.asked.job_id for wanted in batch],
                max(wanted.asked.now for wanted in batch),
                [wanted.after for wanted in batch],
                [wanted.most for wanted in batch],
            )
        return [_outcome(wanted.asked, row) for wanted, row in zip(batch, rows, strict=True)]


def _outcome(asked: Asked, row: Any) -> list[str] | Exception:
    key_id, is_hidden, is_own, end_user, is_there, entries = row
    if key_id is None:
        return KeyUnknown()
    if not is_there or not asked.shows(is_own=is_own, end_user=end_user):
        return NotFound(NOT_FOUND_DETAIL)
    if is_hidden:
        return RoleForbidden(("lead", "admin"), "Finance reads the logs of its own jobs only.")
    return list(entries)

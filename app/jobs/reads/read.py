"""Reading one job: key, role and owner are checked and the Job is written by one statement; waiting reads share it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.accounts.callers import Credential, KeyUnknown
from app.accounts.last_used import LastUsed
from app.db import Database
from app.jobs.group import Group
from app.jobs.reads.links import Links
from app.jobs.reads.reach import NOT_FOUND_DETAIL, sql_reached
from app.jobs.reads.wire import job_json
from app.outputs.rows import SQL_HAS_VIDEO
from app.problems import NotFound
from app.tokens import Grant

INPUT_SHOWN: Final = "CASE WHEN c.role = 'finance' AND j.user_id <> c.user_id THEN NULL ELSE j.input END"
"""Finance reads jobs of all with their inputs hidden."""

_READ: Final = f"""
SELECT c.key_id, c.is_stale, j.version, j.finished_at IS NOT NULL AS is_ended, j.user_id = c.user_id AS is_own,
       j.end_user, {SQL_HAS_VIDEO} AS has_video,
       CASE WHEN j.id IS NOT NULL THEN {job_json(INPUT_SHOWN)} END AS body
FROM unnest($1::bytea[], $2::uuid[]) WITH ORDINALITY AS r (hash, job_id, n)
{sql_reached("$3")}
ORDER BY r.n
"""  # noqa: S608  every part is ours


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks (by the hash of the secret, and the grant of a token) for which job, when."""

    secret_hash: bytes
    job_id: UUID
    now: datetime
    grant: Grant | None = None

    def shows(self, *, is_own: bool, end_user: str | None) -> bool:
        """Whether a token may see the job, which its key may: of that key's user (`is_own`) or not, of that visitor."""
        return self.grant is None or self.grant.shows(self.job_id, is_own=is_own, end_user=end_user)


@dataclass(frozen=True, slots=True)
class Seen:
    """A Job as JSON text, as this caller may see it."""

    body: str
    version: int
    is_ended: bool
    has_video: bool = False


class Reader:
    """Never a cache: each answer was read after it was asked for."""

    def __init__(self, db: Database, last_used: LastUsed, links: Links) -> None:
        self._db = db
        self._links = links
        self._last_used = last_used
        self._group = Group[Asked, Seen](self._read)

    async def read(self, asked: Asked) -> Seen:
        """Raises KeyUnknown, or NotFound for a job that is not there or not theirs."""
        seen = await self._group(asked)
        if not seen.has_video:
            return seen
        credential = Credential(asked.secret_hash, asked.grant)
        return replace(seen, body=self._links.complete(seen.body, asked.job_id, credential, now=asked.now))

    async def _read(self, batch: Sequence[Asked]) -> list[Seen | Exception]:
        async with self._db.plain() as plain:
            rows = await plain.fetch(
                _READ,
                [asked.secret_hash for asked in batch],
                [asked.job_id for asked in batch],
                max(asked.now for asked in batch),
            )
        return [self._outcome(asked, row) for asked, row in zip(batch, rows, strict=True)]

    def _outcome(self, asked: Asked, row: Any) -> Seen | Exception:
        key_id, is_stale, version, is_ended, is_own, end_user, has_video, body = row
        if key_id is None:
            return KeyUnknown()
        if is_stale:
            self._last_used.saw(key_id)
        if body is None or not asked.shows(is_own=is_own, end_user=end_user):
            return NotFound(NOT_FOUND_DETAIL)
        return Seen(body, version, is_ended, has_video)

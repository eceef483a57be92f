"""Which videos are to be kept, and what has become of each: the table `outputs`, one row a job.

    inserted when the job succeeds ──► due (`next_try_at`) ──► kept (`stored_at`)
                                        │      ▲
                                        │      └ each claim moves `next_try_at`, which is the lease
                                        └──► given up (`error`, nothing due): fal's link has lapsed
    marked when the payload is erased (`error` = 'erased', due) ──► the file deleted, then the row

The name of a file stands in the row before there is one: whoever finds the row finds the file.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.db import Database, Plain
from app.ids import sql_show

ERASED: Final = "erased"
TRY_SECONDS: Final = 600.0
"""How long one try may take, however large the video."""
LEASE_SECONDS: Final = 660.0
"""Longer than any try, its storing included."""
_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 3600.0


def sql_video(member: str) -> str:
    """The SQL of a member of the video in the `output` of the row `j` of jobs; NULL where there is none."""
    return f"(j.output #>> '{{video,{member}}}')"


SQL_HAS_VIDEO: Final = f"(j.status = 'succeeded' AND j.payload_erased_at IS NULL AND {sql_video('url')} IS NOT NULL)"
"""Whether the row `j` of jobs has a video to show."""

_FILE_NAME: Final = f"""to_char(j.finished_at AT TIME ZONE 'UTC', 'YYYY/MM/') || {sql_show("job", "j.id")} || '.'
       || coalesce(substring({sql_video("url")} FROM '[.](mp4|webm|mov|gif|png|jpg|webp)([?]|$)'), 'mp4')"""
_KEEP: Final = f"""
INSERT INTO outputs (job_id, url, path, content_type, next_try_at)
SELECT j.id, {sql_video("url")}, {_FILE_NAME}, {sql_video("content_type")}, now() FROM jobs j
WHERE j.id = ANY($1) AND {SQL_HAS_VIDEO} ON CONFLICT DO NOTHING
"""  # noqa: S608  ours
_CLAIM: Final = f"""
WITH due AS MATERIALIZED (
    SELECT o.job_id FROM outputs o WHERE o.next_try_at <= now() ORDER BY o.next_try_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE outputs o SET next_try_at = now() + make_interval(secs => {LEASE_SECONDS}), tries = o.tries + 1
FROM due JOIN jobs j ON j.id = due.job_id WHERE o.job_id = due.job_id
RETURNING o.job_id, o.url, o.path, o.content_type, o.tries, o.next_try_at AS lease_ends_at, j.expires_at,
          o.error IS NOT DISTINCT FROM '{ERASED}' AS is_erased, {sql_video("file_size")} AS file_size
"""  # noqa: S608
_STORED: Final = """
WITH mine AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = $1 AND payload_erased_at IS NULL FOR UPDATE
), kept AS (
    UPDATE outputs o SET stored_at = $3, content_type = $4, size_bytes = $5, sha256 = $6, next_try_at = NULL,
           error = NULL
    FROM mine WHERE o.job_id = mine.id AND o.next_try_at = $2 RETURNING o.job_id
)
UPDATE jobs j SET version = j.version + 1,
       expires_at = greatest(j.expires_at, j.finished_at + make_interval(days => $7))
FROM kept WHERE j.id = kept.job_id RETURNING j.id
"""
_PAUSE: Final = f"least({_FIRST_PAUSE_SECONDS} * 2 ^ least(tries - 1, 20), {_LONGEST_PAUSE_SECONDS})"
_LATER: Final = f"""
UPDATE outputs SET error = $3, next_try_at = CASE WHEN NOT $4::bool THEN now() + make_interval(secs => {_PAUSE}) END
WHERE job_id = $1 AND next_try_at = $2
"""  # noqa: S608
_ERASE_LATER: Final = "UPDATE outputs SET next_try_at = now() + interval '1 minute' WHERE job_id = $1 AND error = $2"
_GIVE_BACK: Final = "UPDATE outputs SET next_try_at = now(), tries = tries - 1 WHERE job_id = $1 AND next_try_at = $2"
_MARK: Final = f"""
WITH mine AS MATERIALIZED (
    SELECT job_id, path, CASE WHEN error = '{ERASED}' THEN next_try_at > now() + interval '1 minute'
                              ELSE stored_at IS NULL AND next_try_at > now() END AS is_open
    FROM outputs WHERE job_id = ANY($1) ORDER BY job_id FOR UPDATE
)
UPDATE outputs o SET error = '{ERASED}', stored_at = NULL, url = '', sha256 = NULL,
       next_try_at = now() + make_interval(secs => CASE WHEN is_open THEN {LEASE_SECONDS} ELSE 60 END)
FROM mine WHERE o.job_id = mine.job_id RETURNING o.job_id, mine.path, mine.is_open
"""  # noqa: S608
_REMOVE: Final = f"DELETE FROM outputs WHERE job_id = ANY($1) AND error = '{ERASED}'"  # noqa: S608
_IS_WANTED: Final = f"SELECT 1 FROM outputs WHERE job_id = $1 AND error IS DISTINCT FROM '{ERASED}'"  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A video that is ours to copy (or, `is_erased`, to delete) until the lease ends; `tries` counts this one."""

    job_id: UUID
    url: str
    path: str
    content_type: str | None
    tries: int
    lease_ends_at: datetime
    expires_at: datetime | None
    is_erased: bool
    file_size: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was copied."""

    content_type: str
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A file that is to go; `is_open`: somebody may be writing it, so it is looked for once more afterwards."""

    job_id: UUID
    path: str
    is_open: bool


async def keep_outputs(plain: Plain, job_ids: Collection[UUID]) -> None:
    """Have the videos of these jobs copied, which have just succeeded in this transaction."""
    await plain.execute(_KEEP, list(job_ids))


async def claim_outputs(db: Database, most: int) -> list[Due]:
    """Take at most so many that are due."""
    async with db.begin_plain(durable=False) as plain:
        return [Due(**dict(row)) for row in await plain.fetch(_CLAIM, most)]


async def store_output(db: Database, due: Due, kept: Kept, *, days: int, now: datetime) -> bool:
    """It is copied, so it is kept for so many days; False: it is no longer ours, or was erased meanwhile."""
    async with db.begin_plain() as plain:
        stored = await plain.fetchval(
            _STORED, due.job_id, due.lease_ends_at, now, kept.content_type, kept.size_bytes, kept.sha256, days
        )
    return stored is not None


async def try_later(db: Database, due: Due, *, error: str, is_last: bool) -> None:
    """It could not be copied: again after a pause, which grows, or never."""
    async with db.begin_plain(durable=False) as plain:
        await plain.execute(_LATER, due.job_id, due.lease_ends_at, error[:500], is_last)


async def erase_later(db: Database, due: Due) -> None:
    """The store did not delete it."""
    async with db.begin_plain(durable=False) as plain:
        await plain.execute(_ERASE_LATER, due.job_id, ERASED)


async def give_back(db: Database, due: Due) -> None:
    """Let another copy it at once."""
    async with db.begin_plain(durable=False) as plain:
        await plain.execute(_GIVE_BACK, due.job_id, due.lease_ends_at)


async def mark_erased(plain: Plain, job_ids: Collection[UUID]) -> Sequence[Marked]:
    """The files of these jobs are to go, and are not shown from here on.

    In the transaction that erases a payload it makes sure of that: the archive deletes what `erase` did not get to.
    """
    return [Marked(**dict(row)) for row in await plain.fetch(_MARK, list(job_ids))]


async def remove_erased(db: Database, job_ids: Collection[UUID]) -> None:
    """Their files are gone."""
    async with db.begin_plain() as plain:
        await plain.execute(_REMOVE, list(job_ids))


async def is_wanted(db: Database, job_id: UUID) -> bool:
    """Whether a file of this job may be kept: it may have been erased while it was copied."""
    async with db.plain() as plain:
        return await plain.fetchval(_IS_WANTED, job_id) is not None

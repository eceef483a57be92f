"""After a restore: what the dump still had to send may have been sent since, so fal is asked first."""

from typing import Final, NamedTuple

from app.db import Database
from app.jobs.at_fal.claims import Followed

# An attempt that the dump has keeps its id, which its webhook names, and its key. Any other was sent after the dump,
# with the newest key that the dump knows as far as anybody can say: no other key's list is evidence of absence.
_RECOVER: Final = """
WITH back AS MATERIALIZED (
    SELECT j.id, j.status, j.attempt_id FROM jobs j
    WHERE j.finished_at IS NULL AND (j.status IN ('queued', 'submitting')
        OR j.status = 'unconfirmed' AND j.fal_request_id IS NULL)
    ORDER BY j.id FOR UPDATE
), moved AS (
    UPDATE jobs j SET status = 'unconfirmed', attempt_id = coalesce(back.attempt_id, gen_random_uuid()),
           next_check_at = NULL, queue_position = NULL, estimated_start_at = NULL, version = j.version + 1
    FROM back WHERE j.id = back.id
    RETURNING j.id, j.attempt_id, j.created_at, back.status AS was
), noted AS (
    INSERT INTO attempts (id, job_id, sent_at, sent_from, fal_key_id, start_seconds, outcome)
    SELECT attempt_id, id, now(), created_at, $1, $2, 'recovered' FROM moved
    ON CONFLICT (id) DO UPDATE SET sent_at = excluded.sent_at, sent_from = excluded.sent_from, outcome = 'recovered',
        absent_at = NULL, start_seconds = CASE WHEN attempts.start_seconds IS NOT NULL
                                               THEN greatest(attempts.start_seconds, excluded.start_seconds) END
)
SELECT was, count(*) AS jobs FROM moved GROUP BY was
"""
# What fal has in the dump, it may have let go of unstarted since, and got again: `sent_from` remembers that.
_MARK_AT_FAL: Final = """
UPDATE attempts a SET sent_from = j.created_at FROM jobs j
WHERE j.finished_at IS NULL AND j.fal_request_id IS NOT NULL AND a.id = j.attempt_id AND a.sent_from IS NULL
"""
_ASK_AGAIN: Final = """
WITH mine AS MATERIALIZED (
    SELECT j.id, a.sent_from, a.fal_key_id FROM jobs j JOIN attempts a ON a.id = j.attempt_id
    WHERE j.id = $1 AND a.id = $2 AND j.status IN ('submitted', 'running', 'unconfirmed') AND a.sent_from IS NOT NULL
    FOR UPDATE OF j
), closed AS (
    UPDATE attempts SET outcome = 'start_deadline' FROM mine WHERE attempts.id = $2
), moved AS (
    UPDATE jobs j SET status = 'unconfirmed', attempt_id = gen_random_uuid(), fal_request_id = NULL,
           queue_position = NULL, submitted_at = NULL, started_at = NULL, gone_at = NULL, next_check_at = NULL,
           version = j.version + 1
    FROM mine WHERE j.id = mine.id
    RETURNING j.id, j.attempt_id, mine.sent_from, mine.fal_key_id
)
INSERT INTO attempts (id, job_id, sent_at, sent_from, fal_key_id, start_seconds, outcome)
SELECT attempt_id, id, now(), sent_from, fal_key_id, $3, 'recovered' FROM moved
RETURNING job_id
"""
_AT_FAL: Final = "SELECT count(*) FROM jobs WHERE finished_at IS NULL AND fal_request_id IS NOT NULL"
_NEWEST_KEY: Final = "SELECT fal_key_id FROM attempts ORDER BY sent_at DESC LIMIT 1"
_OTHERS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'falgate%' AND pid <> pg_backend_pid()
"""
_OF_OTHER_KEYS: Final = """
SELECT count(*) FROM jobs j JOIN attempts a ON a.id = j.attempt_id WHERE j.finished_at IS NULL AND a.fal_key_id <> $1
"""


class Recovered(NamedTuple):
    """How many jobs of each status became `unconfirmed`, how many fal has, and whether under another FAL_KEY."""

    queued: int
    submitting: int
    unconfirmed: int
    at_fal: int
    under_another_key: bool


async def recover_jobs(db: Database, *, fal_key_id: str, start_seconds: int) -> Recovered:
    """Make every job that the dump still had to send `unconfirmed`, as sent at any time until now.

    So are those whose answer was lost, or that an earlier restore left in doubt: since the dump they may have been sent
    again. Each time that it is called the evidence begins anew.
    """
    async with db.begin_plain() as plain:
        newest = await plain.fetchval(_NEWEST_KEY) or fal_key_id
        moved = {row["was"]: row["jobs"] for row in await plain.fetch(_RECOVER, newest, start_seconds)}
        await plain.execute(_MARK_AT_FAL)
        at_fal = await plain.fetchval(_AT_FAL)
    were = [moved.get(status, 0) for status in ("queued", "submitting", "unconfirmed")]
    return Recovered(were[0], were[1], were[2], at_fal, newest != fal_key_id)


async def ask_again(db: Database, job: Followed, *, start_seconds: int) -> bool:
    """Make a job `unconfirmed` that fal let go of unstarted, if it was at fal in a dump that has been restored.

    Between the dump and the restore it may have been sent again. False: it was not, and nothing was changed.
    """
    async with db.begin_plain() as plain:
        return await plain.fetchval(_ASK_AGAIN, job.job_id, job.attempt_id, start_seconds) is not None


async def count_others(db: Database) -> int:
    """How many connections of other processes of falgate's there are to this database."""
    async with db.plain() as plain:
        return int(await plain.fetchval(_OTHERS))


async def count_of_other_keys(db: Database, *, fal_key_id: str) -> int:
    """How many jobs that have not ended were sent with another FAL_KEY."""
    async with db.plain() as plain:
        return int(await plain.fetchval(_OF_OTHER_KEYS, fal_key_id))

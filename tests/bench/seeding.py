"""Ten million jobs over two years, 40 teams, 1,000 users with a key each: made in SQL, in minutes.

What a gateway has after two years: inputs and outputs older than 30 days are erased, each job has its hold, its settle
or void and its attempt, the newest `OPEN` are under way, three quarters carry a tag. Quotas come afterwards (`stage`),
so no job remembers a window.
"""

from datetime import datetime, timedelta
from typing import Final

import asyncpg

from app.db import Database
from app.ledger.spend import rebuild_spend
from app.settings import load_settings

JOBS: Final = 10_000_000
TEAMS: Final = 40
USERS: Final = 1_000
OPEN: Final = 2_000
SPAN: Final = timedelta(days=730)
MODELS: Final = ("kling-2.1-master", "kling-2.1-master", "kling-2.1-master", "kling-2.5-turbo-pro", "veo-3.1")

_PEOPLE: Final = f"""
INSERT INTO teams (id, name, created_at) SELECT md5('team' || n)::uuid, 'Team ' || n, now()
FROM generate_series(1, {TEAMS}) n;
INSERT INTO users (id, team_id, name, role, created_at)
SELECT md5('user' || n)::uuid, md5('team' || n % {TEAMS} + 1)::uuid, 'User ' || n, 'member', now()
FROM generate_series(1, {USERS}) n;
INSERT INTO keys (id, user_id, name, prefix, created_at)
SELECT md5('key' || n)::uuid, md5('user' || n)::uuid, 'key', 'fg_', now() FROM generate_series(1, {USERS}) n
"""  # noqa: S608  figures of our own
_MADE: Final = """
CREATE FUNCTION pg_temp.seeded(n bigint, ms bigint, kind text) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$
    SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(md5(kind || n), 1, 3) || '8'
            || substr(md5(kind || n), 4, 15))::uuid
$$
"""
_FILL: Final = """
INSERT INTO jobs (id, status, model, endpoint, input, tags, end_user, seconds, quoted_usd, held_usd, charged_usd,
                  price_id, quota_usage_ids, user_id, team_id, key_id, attempt_id, fal_request_id, next_check_at,
                  created_at, queued_at, submitted_at, started_at, finished_at, output, payload_erased_at)
SELECT id, status, model, 'fal-ai/kling-video/v2.1/master/text-to-video',
       CASE WHEN is_old THEN '{{}}'
            ELSE '{{"prompt": "a paper boat crosses a puddle at dawn, slow dolly shot", "duration": "5"}}' END::json,
       CASE WHEN h %% 4 = 0 THEN '{{}}' ELSE jsonb_build_object('project', 'p' || h %% 200) END,
       CASE WHEN h %% 3 = 0 THEN 'visitor ' || h %% 5000 END, seconds, usd, CASE WHEN is_open THEN usd ELSE 0 END,
       CASE WHEN NOT is_open THEN CASE WHEN status = 'succeeded' THEN usd ELSE 0 END END,
       md5('price')::uuid, '{{}}', md5('user' || u)::uuid, md5('team' || u %% {teams} + 1)::uuid, md5('key' || u)::uuid,
       pg_temp.seeded(n, ms, 'attempt'), gen.id::text, CASE WHEN is_open THEN made + interval '10 years' END,
       made, made, made, made + interval '5 seconds', ended,
       CASE WHEN status = 'succeeded' AND NOT is_old
            THEN '{{"video": {{"url": "https://v3.fal.media/files/b/boat.mp4"}}}}'::json END,
       CASE WHEN is_old THEN ended + interval '30 days' END
FROM (
    SELECT n, ms, h, h %% {users} + 1 AS u, pg_temp.seeded(n, ms, 'job') AS id, to_timestamp(ms / 1000.0) AS made,
           n > {jobs} - {open} AS is_open, n < {jobs} * 0.96 AS is_old,
           CASE WHEN n <= {jobs} - {open} THEN to_timestamp((ms + 90000 + h %% 180000) / 1000.0) END AS ended,
           CASE WHEN n > {jobs} - {open} THEN 'running' WHEN h %% 50 = 1 THEN 'failed' WHEN h %% 50 = 2 THEN 'canceled'
                ELSE 'succeeded' END AS status,
           ('{models}'::text[])[h / 7 %% {model_count} + 1] AS model,
           CASE WHEN h %% 5 = 0 THEN 10 ELSE 5 END AS seconds, CASE WHEN h %% 5 = 0 THEN 2.80 ELSE 1.40 END AS usd
    FROM (SELECT n, {begins} + n * {span} / {jobs} AS ms, abs(hashint8(n)::bigint) AS h
          FROM generate_series($1::bigint, $2::bigint) n) s
) gen
"""
_LEDGER: Final = """
INSERT INTO attempts (id, job_id, sent_at, fal_request_id, fal_key_id, outcome, status_path, result_path, cancel_path)
SELECT attempt_id, id, created_at, fal_request_id, 'bench', 'accepted', '/s', '/r', '/c' FROM jobs ORDER BY id;
INSERT INTO entries (id, job_id, kind, source, amount_usd, seconds, price_id, resolves_id, user_id, team_id, key_id,
                     model, end_user, tags, booked_at, job_status)
SELECT e.id, j.id, e.kind, e.source, quoted_usd, seconds, price_id, e.resolves_id, user_id, team_id, key_id, model,
       end_user, tags, e.booked_at, e.job_status
FROM jobs j, LATERAL (
    SELECT j.id, 'hold' AS kind, 'job' AS source, NULL::uuid AS resolves_id, j.created_at AS booked_at,
           NULL AS job_status
    UNION ALL
    SELECT pg_temp.seeded(0, (extract(epoch FROM j.finished_at) * 1000)::bigint, j.id::text),
           CASE WHEN j.charged_usd > 0 THEN 'settle' ELSE 'void' END, replace(j.id::text, '-', ''), j.id, j.finished_at,
           j.status
    WHERE j.finished_at IS NOT NULL
) e ORDER BY j.id
"""
_INDEXES: Final = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i
WHERE i.indrelid IN ('jobs'::regclass, 'entries'::regclass, 'attempts'::regclass)
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
"""
_STEP: Final = 500_000


async def seed_jobs(dsn: str, *, jobs: int = JOBS, now: datetime) -> None:
    """Fill a migrated, empty database; its indexes are made anew when the rows are there."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET session_replication_role = replica; SET maintenance_work_mem = '512MB'")
        await connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'")
        indexes = await connection.fetch(_INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        await connection.execute(_PEOPLE)
        await connection.execute(_MADE)
        fill = _FILL.format(
            jobs=jobs,
            teams=TEAMS,
            users=USERS,
            open=min(OPEN, jobs // 10),
            begins=int((now - SPAN).timestamp() * 1000),
            span=int(SPAN.total_seconds() * 1000),
            models="{" + ",".join(MODELS) + "}",
            model_count=len(MODELS),
        ).replace("%%", "%")
        for first in range(1, jobs + 1, _STEP):
            await connection.execute(fill, first, min(jobs, first + _STEP - 1))
        for statement in _LEDGER.split(";\n"):
            await connection.execute(statement)
        for index in indexes:
            await connection.execute(index["definition"])
    finally:
        await connection.close()
    db = Database(dsn, command_seconds=None)
    zone = load_settings({"FAL_KEY": "bench-key", "DATABASE_URL": dsn}, env_file=None).zone
    await rebuild_spend(db, zone=zone)
    await db.close()
    connection = await asyncpg.connect(dsn)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()

"""A migration leaves the previous release working: it only adds, and what that release writes is taken."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import migrations
from app.catalogue.prices import seed_prices
from app.catalogue.registry import load_catalogue
from app.cli.migrate import move
from app.db import Database, Plain

NOW: Final = datetime(2026, 11, 20, tzinfo=UTC)

_COLUMNS: Final = """
SELECT table_name, column_name, is_nullable, column_default, udt_name, character_maximum_length, numeric_precision,
       numeric_scale, is_generated, is_identity
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
_CONSTRAINTS: Final = """
SELECT c.conrelid::regclass::text AS table_name, c.conname AS name, pg_get_constraintdef(c.oid) AS definition
FROM pg_constraint c WHERE c.connamespace = 'public'::regnamespace AND c.contype <> 'n'
"""
_TRIGGERS: Final = """
SELECT tgrelid::regclass::text AS table_name, tgname AS name, pg_get_triggerdef(oid) AS definition
FROM pg_trigger WHERE NOT tgisinternal
"""
_UNIQUE: Final = """
SELECT i.indrelid::regclass::text AS table_name, i.indexrelid::regclass::text AS name,
       pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
"""


def revisions() -> list[str]:
    """From the oldest to the newest."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


class Schema:
    """What a release relies on, or could be hindered by."""

    def __init__(self, columns: list[Any], rules: list[Any]) -> None:
        self.columns = {(row["table_name"], row["column_name"]): dict(row) for row in columns}
        self.rules = {(row["table_name"], row["name"]): row["definition"] for row in rules}
        self.tables = {table for table, _ in self.columns}

    def hindrances(self, newer: "Schema") -> list[str]:
        """What in the newer schema a release of this one would stumble over."""
        found = []
        for name, column in self.columns.items():
            if newer.columns.get(name) != column:
                found.append(f"{'.'.join(name)} was {column} and is {newer.columns.get(name)}")
        for (table, name), column in newer.columns.items():
            is_demanded = column["is_nullable"] == "NO" and column["column_default"] is None
            if table in self.tables and (table, name) not in self.columns and is_demanded:
                found.append(f"{table}.{name} is demanded of whoever inserts")
        for (table, name), definition in self.rules.items():
            if newer.rules.get((table, name)) != definition:
                found.append(f"{name} of {table} was {definition} and is {newer.rules.get((table, name))}")
        found += [
            f"{name} of {table} is new"
            for table, name in newer.rules.keys() - self.rules.keys()
            if table in self.tables
        ]
        return found


async def read_schema(plain: Plain) -> Schema:
    rules = [*await plain.fetch(_CONSTRAINTS), *await plain.fetch(_TRIGGERS), *await plain.fetch(_UNIQUE)]
    return Schema(await plain.fetch(_COLUMNS), rules)


@pytest.fixture
async def db(empty_url: str) -> AsyncIterator[Database]:
    made = Database(empty_url)
    yield made
    await made.close()


async def up(db: Database, revision: str) -> None:
    await move(db, lambda config: command.upgrade(config, revision))


async def test_every_migration_only_adds(db: Database) -> None:
    first, *others = revisions()
    await up(db, first)
    for revision in others:
        async with db.plain() as plain:
            before = await read_schema(plain)
        await up(db, revision)
        async with db.plain() as plain:
            assert before.hindrances(await read_schema(plain)) == [], revision


HINDERS: Final = (
    "ALTER TABLE jobs DROP COLUMN queue_position",
    "ALTER TABLE jobs RENAME COLUMN queue_position TO place",
    "ALTER TABLE jobs ALTER COLUMN queue_position TYPE bigint",
    "ALTER TABLE jobs ALTER COLUMN quoted_usd TYPE numeric(12, 4)",
    "ALTER TABLE jobs ALTER COLUMN end_user SET NOT NULL",
    "ALTER TABLE jobs ALTER COLUMN version DROP DEFAULT",
    "ALTER TABLE jobs ADD COLUMN demanded text NOT NULL",
    "ALTER TABLE jobs ADD CONSTRAINT jobs_new_check CHECK (checks < 1000)",
    "ALTER TABLE jobs DROP CONSTRAINT jobs_status_check, ADD CONSTRAINT jobs_status_check CHECK (status <> '')",
    "CREATE UNIQUE INDEX jobs_new_key ON jobs (attempt_id)",
    "CREATE TRIGGER jobs_new BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "DROP TABLE payloads",
)
ONLY_ADDS: Final = (
    "ALTER TABLE jobs ADD COLUMN allowed text",
    "ALTER TABLE jobs ADD COLUMN allowed text NOT NULL DEFAULT ''",
    "CREATE TABLE allowed (id uuid NOT NULL, CONSTRAINT allowed_pkey PRIMARY KEY (id))",
    "CREATE INDEX jobs_allowed_idx ON jobs (created_at)",
)


async def test_whatever_would_hinder_the_previous_release_is_seen_and_nothing_else(db: Database) -> None:
    await up(db, "0001")
    async with db.plain() as plain:
        before = await read_schema(plain)
        for change in HINDERS + ONLY_ADDS:
            await plain.execute("BEGIN")
            await plain.execute(change)
            assert bool(before.hindrances(await read_schema(plain))) == (change in HINDERS), change
            await plain.execute("ROLLBACK")


# The statements of release 0001, as they stood in its code: submit, claim, accept, see, put back, end, stray.

RELEASE_0001: Final = (
    """INSERT INTO jobs (id, status, model, endpoint, input, tags, end_user, seconds, quoted_usd, held_usd, price_id,
                         quota_usage_ids, user_id, team_id, key_id, next_check_at, created_at, queued_at)
       SELECT id, 'queued', 'kling-2.1-master', 'fal-ai/kling-video/v2.1/master/text-to-video', '{"prompt": "a boat"}',
              '{}', NULL, 5, 1.40, 1.40, gen_random_uuid(), '{}', gen_random_uuid(), gen_random_uuid(),
              gen_random_uuid(), now(), now(), now()
       FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 3)) n""",
    """INSERT INTO entries (id, job_id, kind, source, amount_usd, seconds, price_id, user_id, team_id, key_id, model,
                            end_user, tags, booked_at)
       SELECT gen_random_uuid(), id, 'hold', 'job', quoted_usd, seconds, price_id, user_id, team_id, key_id, model,
              end_user, tags, now() FROM jobs""",
    "INSERT INTO payloads (job_id, input) SELECT id, input FROM jobs",
    "INSERT INTO idempotency_keys (user_id, key, fingerprint, job_id) SELECT user_id, 'k', 'f', id FROM jobs",
    """WITH c AS (UPDATE jobs j SET status = 'submitting', attempt_id = gen_random_uuid(), version = j.version + 1,
                         next_check_at = now() + make_interval(secs => 90) WHERE status = 'queued' RETURNING j.*)
       INSERT INTO attempts (id, job_id, sent_at, fal_key_id) SELECT attempt_id, id, now(), 'key' FROM c""",
    """UPDATE attempts SET outcome = 'accepted', fal_request_id = id::text, status_path = '/s', result_path = '/r',
              cancel_path = '/c'""",
    """UPDATE jobs j SET status = 'submitted', fal_request_id = attempt_id::text, queue_position = 0,
              submitted_at = now(), checks = 0, version = version + 1, next_check_at = now()
       WHERE j.status IN ('submitting', 'unconfirmed') AND j.fal_request_id IS NULL""",
    "UPDATE jobs SET status = 'running', started_at = now(), version = version + 1, gone_at = NULL",
    """UPDATE jobs SET status = 'queued', attempt_id = NULL, fal_request_id = NULL, queue_position = NULL,
              submitted_at = NULL, started_at = NULL, gone_at = NULL, version = version + 1, next_check_at = now()
       WHERE id = (SELECT min(id::text)::uuid FROM jobs)""",
    """UPDATE jobs SET status = 'unconfirmed', version = version + 1, next_check_at = NULL
       WHERE id = (SELECT max(id::text)::uuid FROM jobs)""",
    "UPDATE attempts SET outcome = 'unknown', stray_check_at = now()",
    """UPDATE jobs SET status = 'succeeded', output = '{}', finished_at = now(), next_check_at = NULL, held_usd = 0,
              charged_usd = 1.40, version = version + 1 WHERE status = 'running'""",
    """INSERT INTO entries (id, job_id, kind, source, amount_usd, seconds, price_id, fal_units, resolves_id, mark, note,
                            by, user_id, team_id, key_id, model, end_user, tags, booked_at)
       SELECT gen_random_uuid(), e.job_id, 'settle', e.id::text, e.amount_usd, e.seconds, e.price_id, 5, e.id, NULL,
              NULL, NULL, e.user_id, e.team_id, e.key_id, e.model, e.end_user, e.tags, now()
       FROM entries e JOIN jobs j ON j.id = e.job_id WHERE j.status = 'succeeded'""",
    """INSERT INTO spend_daily (day, team_id, user_id, key_id, model, charged_usd, seconds)
       SELECT current_date, team_id, user_id, key_id, model, 1.40, 5 FROM jobs WHERE status = 'succeeded'""",
    "DELETE FROM payloads WHERE job_id IN (SELECT id FROM jobs WHERE finished_at IS NOT NULL)",
)
_LEFT: Final = "SELECT status, count(*) AS n FROM jobs GROUP BY status ORDER BY status"


async def test_the_statements_of_the_first_release_still_run(db: Database) -> None:
    await up(db, "head")
    async with db.plain() as plain:
        for statement in RELEASE_0001:
            assert not (await plain.execute(statement)).endswith(" 0"), statement
        left = {row["status"]: row["n"] for row in await plain.fetch(_LEFT)}
    assert left == {"queued": 1, "succeeded": 1, "unconfirmed": 1}


async def test_its_data_lives_through_every_upgrade_and_the_way_back(db: Database) -> None:
    first, *others = revisions()
    await up(db, first)
    async with db.begin() as tx:
        await seed_prices(tx, load_catalogue(), now=NOW)
    async with db.plain() as plain:
        for statement in RELEASE_0001:
            await plain.execute(statement)
        schema = await read_schema(plain)
    before = await _rows(db, schema)
    for revision in others:
        await up(db, revision)
        assert await _rows(db, schema) == before, revision
    await move(db, lambda config: command.downgrade(config, first))
    async with db.plain() as plain:
        again = await read_schema(plain)
    assert (again.columns, again.rules) == (schema.columns, schema.rules)
    assert await _rows(db, schema) == before


async def _rows(db: Database, schema: Schema) -> dict[str, list[str]]:
    """Every row of every table of that schema, by the columns that it had."""
    rows = {}
    async with db.plain() as plain:
        for table in sorted(schema.tables):
            columns = ", ".join(f'"{column}"' for its, column in schema.columns if its == table)
            found = await plain.fetch(f"SELECT {columns} FROM {table}")  # noqa: S608
            rows[table] = sorted(str(dict(row)) for row in found)
    return rows

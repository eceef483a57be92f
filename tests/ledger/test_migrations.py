"""Migrations: one head, both ways on data, once however many start together, and tables that say the same."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import migrations
from app.catalogue.registry import load_catalogue
from app.cli import migrate as migrate_module
from app.cli.migrate import migrate, move
from app.db import SCHEMA_REVISION, Database, is_database_away, metadata
from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for

from .house import House

_NO_TABLE_IN_CODE = {"installation", "alembic_version"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENDPOINTS = len(load_catalogue().endpoints)
FOLDER = Path(migrations.__file__).parent


async def empty(postgres: EmbeddedPostgres, name: str) -> Database:
    postgres.create_database(name)
    return Database(postgres.dsn(name))


async def up(db: Database, url: str) -> list[str]:
    return (await migrate(db, settings=settings_for(url), catalogue=load_catalogue(), now=NOW)).priced


async def tables(db: Database) -> set[str]:
    async with db.plain() as plain:
        return {row[0] for row in await plain.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_there_is_one_head_and_the_code_was_written_for_it() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


async def test_down_and_up_again_on_data(postgres: EmbeddedPostgres) -> None:
    db = await empty(postgres, "down_and_up")
    url = postgres.dsn("down_and_up")
    assert len(await up(db, url)) == ENDPOINTS
    assert await up(db, url) == [], "the second time there is nothing to do"
    house = House(settings_for(url))
    await house.quota("14.00")
    for _ in range(2):
        who = await house.someone()
        await house.end(await house.submit(who, tags={"a": "b"}, key="k"))
        await house.submit(who, end_user="x")
        await house.send()
    await move(db, lambda config: command.downgrade(config, "base"))
    assert await tables(db) == {"alembic_version"}
    async with db.plain() as plain:
        assert await plain.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'refuse_change'") == 0
    assert len(await up(db, url)) == ENDPOINTS
    assert await house.submit(await house.someone())
    assert await house.audit() == []
    await house.close()
    await db.close()


async def test_the_tables_in_code_are_those_in_the_database(db: Database) -> None:
    def compare(connection: Any) -> list[Any]:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: (
                    kind != "table" or name not in {"installation", "alembic_version"}
                ),
            },
        )
        return list(compare_metadata(context, metadata))

    async with db.begin() as tx:
        assert await tx.run_sync(compare) == []


async def test_constraints_in_code_are_those_in_the_database(db: Database) -> None:
    """What alembic does not compare: the names of CHECKs and primary keys, and the conditions of indexes."""
    async with db.plain() as plain:
        rows = await plain.fetch(
            "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace "
            "AND contype IN ('c', 'p', 'f', 'u') "
            "AND conrelid NOT IN ('installation'::regclass, 'alembic_version'::regclass)"
        )
        partial = await plain.fetch("SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indpred IS NOT NULL")
    in_code = {str(one.name) for table in metadata.tables.values() for one in table.constraints if one.name}
    assert in_code == {row["conname"] for row in rows}
    indexes = [index for table in metadata.tables.values() for index in table.indexes]
    in_code = {str(one.name) for one in indexes if one.dialect_options["postgresql"]["where"] is not None}
    assert in_code == {row["name"] for row in partial}


async def test_no_constraint_was_named_by_postgres_or_by_chance() -> None:
    """Every constraint is named where it is written: what has a name can be changed by a later migration."""
    for path in (FOLDER / "versions").glob("0*.py"):
        source = re.sub(r"CONSTRAINT \w+ (PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY)", "", path.read_text())
        source = re.sub(r"CONSTRAINT \w+\s+CHECK", "", source)
        assert not re.findall(r"PRIMARY KEY|\bUNIQUE \(|\bCHECK \(|REFERENCES(?! \w+ \(id\)\n?[,)]?)", source), path


async def test_eight_that_migrate_at_once_migrate_once(postgres: EmbeddedPostgres) -> None:
    first = await empty(postgres, "at_once")
    url = postgres.dsn("at_once")
    replicas = [Database(url) for _ in range(8)]
    seeded = await asyncio.gather(*(up(replica, url) for replica in replicas))
    assert sorted(len(each) for each in seeded) == [0] * 7 + [ENDPOINTS]
    async with first.plain() as plain:
        assert await plain.fetchval("SELECT count(DISTINCT endpoint) FROM prices") == ENDPOINTS
        assert await plain.fetchval("SELECT count(*) FROM installation") == 1
        assert await plain.fetchval("SELECT count(*) FROM alembic_version") == 1
    for each in (first, *replicas):
        await each.close()


async def test_a_migration_that_breaks_leaves_nothing_behind(postgres: EmbeddedPostgres) -> None:
    db = await empty(postgres, "breaks")

    def half(config: Config) -> None:
        command.upgrade(config, "head")
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        await move(db, half)
    assert await tables(db) == set()
    assert len(await up(db, postgres.dsn("breaks"))) == ENDPOINTS
    await db.close()


async def test_a_migration_does_not_wait_for_ever(
    db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the lock: it gives up, and nothing has changed."""
    monkeypatch.setattr(migrate_module, "_LOCK_SECONDS", 0.2)
    async with db.begin() as tx:
        await tx.execute(text("LOCK TABLE jobs IN ACCESS SHARE MODE"))
        other = Database(database_url)
        with pytest.raises(DBAPIError) as late:
            await asyncio.wait_for(move(other, lambda config: command.downgrade(config, "base")), 5)
        assert is_database_away(late.value)
        await other.close()
    assert "jobs" in await tables(db)

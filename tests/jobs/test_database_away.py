"""What a lost connection leaves: nothing poisoned in the pool, and no lost COMMIT called a failed one."""

import asyncio

import asyncpg
import pytest

from app.db import CommitUnknown, Database, Plain

_END_THE_OTHERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

_NOBODY_ELSE = """
SELECT count(*) = 0 FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


async def _wait_for(outside: Plain, condition: str) -> None:
    for _ in range(3000):
        if await outside.fetchval(condition):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(condition)


async def _until_at(db: Database, query: str) -> None:
    """Until a connection is in the middle of this query."""
    outside = await db.connect()
    await _wait_for(
        outside,
        f"SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '{query}%'",  # noqa: S608
    )
    await outside.close()


async def _end_others(db: Database) -> int:
    outside = await db.connect()
    ended = int(await outside.fetchval(_END_THE_OTHERS))
    await _wait_for(outside, _NOBODY_ELSE)
    await outside.close()
    return ended


async def _fill_pool(db: Database) -> None:
    everybody = asyncio.Barrier(10)

    async def one() -> None:
        async with db.plain() as plain:
            await plain.execute("SELECT 1")
            await everybody.wait()

    await asyncio.gather(*(one() for _ in range(10)))


async def test_after_a_restart_of_postgres_nobody_is_given_a_dead_connection(db: Database) -> None:
    await _fill_pool(db)
    assert await _end_others(db) >= 10
    await asyncio.sleep(0.1)
    await _fill_pool(db)
    async with db.begin_plain() as plain:
        assert await plain.fetchval("SELECT 1") == 1


async def test_a_connection_that_breaks_in_use_is_not_given_to_another(db: Database) -> None:
    async def sleep() -> None:
        async with db.plain() as plain:
            await plain.execute("SELECT pg_sleep(60)")

    for _ in range(12):  # more often than the pool has places
        sleeping = asyncio.create_task(sleep())
        await _until_at(db, "SELECT pg_sleep(60)")
        await _end_others(db)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await sleeping
    await _fill_pool(db)


async def test_a_connection_lost_during_commit_leaves_nobody_knowing_whether_it_happened(db: Database) -> None:
    async with db.plain() as plain:
        await plain.execute("CREATE TABLE slow (n int)")
        await plain.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"
        )
        await plain.execute(
            "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )

    async def write() -> None:
        async with db.begin_plain() as plain:
            await plain.execute("INSERT INTO slow VALUES (1)")

    writing = asyncio.create_task(write())
    await _until_at(db, "COMMIT")
    await _end_others(db)
    with pytest.raises(CommitUnknown):
        await writing
    await _fill_pool(db)


async def test_a_commit_that_postgres_refuses_is_a_failure_that_is_known(db: Database) -> None:
    async with db.plain() as plain:
        await plain.execute("CREATE TABLE late (n int, CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with db.begin_plain() as plain:
            await plain.execute("INSERT INTO late VALUES (1), (1)")
    async with db.plain() as plain:
        assert await plain.fetchval("SELECT count(*) FROM late") == 0

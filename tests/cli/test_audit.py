"""`falgate audit`: nothing to say, or every difference."""

import asyncio
from pathlib import Path

import asyncpg

from app.db import Lock
from tests.cli.commands import FORKS, environment, falgate, installed, real
from tests.embedded.owners import query


def test_it_agrees_or_lists_every_difference(database_url: str, tmp_path: Path) -> None:
    assert installed("audit", folder=tmp_path, **real(database_url)) == (0, "the ledger agrees\n", "")
    query(
        database_url,
        """
        INSERT INTO spend_daily (day, team_id, user_id, key_id, model, charged_usd, seconds)
        SELECT day, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'kling-2.1-master', 1.40, 5
        FROM unnest(ARRAY['2026-01-01', '2026-01-02']::date[]) AS day
        """,
    )
    done = falgate("audit", folder=tmp_path, **real(database_url))
    assert done.code == 1
    assert done.err == ""
    assert [line.partition(" ")[0] for line in done.out.splitlines()] == ["spend_daily", "spend_daily"]


async def test_a_rebuild_that_is_killed_lets_go_of_the_books(database_url: str, tmp_path: Path) -> None:
    """It may have been hours from its end, and nobody holds or settles meanwhile."""
    other = await asyncpg.connect(database_url)

    async def until_the_lock_is(*, held: bool) -> None:
        held_by = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND mode = 'ExclusiveLock'"
        while await other.fetchval(held_by, int(Lock.QUOTAS)) != held:
            await other.execute("SELECT pg_sleep(0.05)")

    async with asyncio.timeout(30):
        await other.execute("BEGIN; LOCK TABLE spend_daily IN EXCLUSIVE MODE")
        out = tmp_path / "out"
        fork = FORKS.start(["audit", "--rebuild"], tmp_path, environment(**real(database_url)), out, out)
        await until_the_lock_is(held=True)
        fork.kill()
        await until_the_lock_is(held=False)
        await other.execute("ROLLBACK")
    await other.close()

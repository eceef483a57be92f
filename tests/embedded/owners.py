"""An owner of an embedded server in a process of its own, which a test may end in any way."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import asyncpg

QUICK = {"fsync": "off"}
HOLD = """
import sys
from pathlib import Path
from app.embedded import EmbeddedPostgres, EmbeddedPostgresError

def hold():
    with EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
        print(server.dsn(), flush=True)
        sys.stdin.read()
"""
MAIN = HOLD + "try: hold()\nexcept EmbeddedPostgresError as error: print(error, flush=True)\n"


class Process(NamedTuple):
    """A process, told from a later one of the same number by the moment it began."""

    pid: int
    began: str

    def is_alive(self) -> bool:
        found = stat_of(Path("/proc") / str(self.pid))
        return found is not None and found[0] == self


class Owner(NamedTuple):
    popen: subprocess.Popen[str]
    said: str  # the dsn, or why there is none

    @property
    def fresh(self) -> Path:
        return fresh_folder(self.said)


@contextlib.contextmanager
def owner(
    argument: Path | str, *, source: str = MAIN, account: int | None = None, stays: bool = False
) -> Iterator[Owner]:
    """Start an owner and wait for its first words; it is killed at the end if the test has not ended it."""
    popen = subprocess.Popen(
        [*become(account), sys.executable, "-c", source, str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        start_new_session=True,
    )
    if popen.stdin is None or popen.stdout is None:
        raise AssertionError
    with popen:
        try:
            yield Owner(popen, "" if stays else popen.stdout.readline().strip())
        finally:
            below = descendants(popen.pid)
            popen.kill()
            wait_for(lambda: not any(process.is_alive() for process in below))


def become(uid: int | None) -> list[str]:
    """What to put before a command for root to run it as another user, who may all the same read everything.

    Python itself may lie below /root; PostgreSQL's rules are about users and know no such right.
    """
    if uid is None:
        return []
    user = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return ["setpriv", *user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    async def ask() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(dsn)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(ask())


def wait_for(happened: Callable[[], bool]) -> None:
    """Return when it has; long after anybody would have lost patience it is a failure."""
    give_up_at = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < give_up_at, "it never happened"
        time.sleep(0.01)


def fresh_folder(dsn: str) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0]).parent


def processes() -> dict[Process, tuple[int, int]]:
    """The parent and the user of each process that is not a zombie."""
    found = (stat_of(folder) for folder in Path("/proc").glob("[0-9]*"))
    return {process: (parent, user) for process, parent, user in filter(None, found)}


def stat_of(folder: Path) -> tuple[Process, int, int] | None:
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        user = folder.stat().st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else (Process(int(folder.name), fields[19]), int(fields[1]), user)


def processes_of(dsn: str) -> list[Process]:
    """The keeper, the server, the server's own: found by the lock file that lies beside the socket."""
    lock = fresh_folder(dsn) / "socket" / ".s.PGSQL.5432.lock"
    server = int(lock.read_text().split()[0])
    running = processes()
    keeper = next(parent for process, (parent, _) in running.items() if process.pid == server)
    return [next(process for process in running if process.pid == keeper), *descendants(keeper)]


def descendants(pid: int) -> list[Process]:
    """All below a process, its own children first."""
    parents = {process: parent for process, (parent, _) in processes().items()}
    found: list[Process] = []
    level = [pid]
    while level:
        below = sorted(process for process, parent in parents.items() if parent in level)
        found += below
        level = [process.pid for process in below]
    return found


def users_of(below: list[Process]) -> set[int]:
    running = processes()
    return {running[process][1] for process in below if process in running}


def shared_memory_of(below: list[Process]) -> list[str]:
    """The System V segments that one of these processes made."""
    pids = {str(process.pid) for process in below}
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[4] in pids]


def picture(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Mode, user, group and last change of a folder and all in it."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): look(path) for path in paths}


def look(path: Path) -> tuple[int, int, int, int]:
    seen = path.lstat()
    return seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns

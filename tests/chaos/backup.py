"""A dump of a database while it is at work, and its restore: what an operator types."""

import os
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.embedded import EmbeddedPostgres, newest_binaries


def dump(url: str, file: Path) -> None:
    """As of one moment, whoever is writing."""
    _run("pg_dump", "--format=custom", "--compress=0", f"--file={file}", *_where(url))


def restore(postgres: EmbeddedPostgres, url: str, file: Path) -> None:
    """The database as it was dumped, in place of what it has become; whoever is connected is thrown out."""
    name = urlsplit(url).path.lstrip("/")
    postgres._sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    postgres.create_database(name)
    _run("pg_restore", "--exit-on-error", *_where(url), str(file))


def _where(url: str) -> list[str]:
    parts = urlsplit(url)
    host = parse_qs(parts.query)["host"][0]
    return [f"--host={host}", "--port=5432", "--username=postgres", f"--dbname={parts.path.lstrip('/')}"]


def _run(program: str, *arguments: str) -> None:
    command = [str(newest_binaries().folder / "bin" / program), *arguments]
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

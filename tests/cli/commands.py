"""The command `falgate` as a process of its own, with nothing of this machine's environment but where programs are."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from tests.cli.forks import Fork, Forks
from tests.conftest import ADMIN_KEY, FAL_KEY
from tests.embedded.owners import Process, descendants, wait_for

FALGATE: Final = str(Path(sys.executable).with_name("falgate"))
FORKS: Final = Forks()


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def environment(**settings: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, **settings}


def real(database_url: str, **settings: str) -> dict[str, str]:
    """Settings with a real FAL_KEY, as the template of the tests has it."""
    return {"FAL_KEY": FAL_KEY, "ADMIN_KEY": ADMIN_KEY, "DATABASE_URL": database_url, **settings}


def falgate(*arguments: str, folder: Path, **settings: str) -> Done:
    """Run a command to its end, forked from a process that has imported it."""
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said) / "out", Path(said) / "err"
        with FORKS.start([*arguments], folder, environment(**settings), out, err) as fork:
            try:
                code = fork.wait(60)  # a `serve` that should have refused would stay for ever
            finally:
                fork.kill()
        return Done(code, out.read_text(), err.read_text())


def installed(*arguments: str, folder: Path, **settings: str) -> Done:
    """Run a command to its end as a shell runs it."""
    done = subprocess.run(
        [FALGATE, *arguments],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Serving:
    """A gateway that runs until it is told to end."""

    def __init__(self, popen: Fork, url: str, log: Path) -> None:
        self.popen = popen
        self.url = url
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def below(self) -> list[Process]:
        return descendants(self.popen.pid)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=10)

    def end(self, number: int) -> int:
        """Send a signal; return the exit code, once all that was below is gone too."""
        below = self.below()
        self.popen.send_signal(number)
        code = self.popen.wait(30)
        wait_for(lambda: not any(process.is_alive() for process in below))
        return code


@contextmanager
def serving(*arguments: str, folder: Path, **settings: str) -> Iterator[Serving]:
    """`falgate serve` on a free port, once it has said that it is ready."""
    out, log = folder / "serve.out", folder / "serve.log"
    asked = ["serve", *arguments]
    out.unlink(missing_ok=True)  # of one before
    with FORKS.start(asked, folder, environment(**({"PORT": "0"} | settings)), out, log) as popen:
        below: list[Process] = []
        try:
            wait_for(lambda: (out.exists() and "\n" in out.read_text()) or popen.has_ended())
            line = out.read_text()
            assert line.startswith("falgate: http://"), log.read_text()
            below = descendants(popen.pid)
            yield Serving(popen, line.split()[1], log)
        finally:
            popen.kill()
            popen.wait()
            wait_for(lambda: not any(process.is_alive() for process in below))

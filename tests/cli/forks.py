"""Commands forked from one process that has imported them all: to import them takes a second each time.

`python -m tests.cli.forks` reads orders, one a line: each becomes a process. It tells `{"pid"}` when that has begun
and `{"ended", "code"}` when it is over.
"""

import atexit
import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final, Self

from app.cli import main

COMMANDS: Final = ("serve", "migrate", "demo", "sandbox", "keys", "audit", "recover")
TOLD_BYTES: Final = 64


class Forks:
    """The process that forks, started with the first order."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._begun: int | None = None
        self._codes: dict[int, int] = {}

    def start(self, arguments: list[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path) -> "Fork":
        """A command in a process of its own."""
        process = self._process = self._process or self._open()
        if process.stdin is None:
            raise AssertionError
        order = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        process.stdin.write(json.dumps(order | {"out": str(out), "err": str(err)}).encode() + b"\n")
        process.stdin.flush()
        self._begun = None
        while self._begun is None:
            self._hear(60)
        return Fork(self, self._begun)

    def code_of(self, pid: int, seconds: float) -> int:
        """How a process has ended. Raises TimeoutError."""
        give_up_at = time.monotonic() + seconds
        while pid not in self._codes:
            self._hear(max(0, give_up_at - time.monotonic()))
        return self._codes[pid]

    def end(self) -> None:
        """End it, and whatever command still runs."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            with process:
                process.wait()

    def _open(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.cli.forks"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def _hear(self, seconds: float) -> None:
        if self._process is None or self._process.stdout is None:
            raise AssertionError
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise TimeoutError
        told = json.loads(os.read(self._process.stdout.fileno(), TOLD_BYTES))
        if "pid" in told:
            self._begun = told["pid"]
        else:
            self._codes[told["ended"]] = told["code"]


class Fork:
    """A command that was started, as `subprocess.Popen` shows it."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self.pid = pid

    def wait(self, timeout: float = 60) -> int:
        """Its exit code."""
        return self._forks.code_of(self.pid, timeout)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        with suppress(TimeoutError):
            self._forks.code_of(self.pid, 0)
            return True
        return False

    def kill(self) -> None:
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def _tell(**what: int) -> None:
    os.write(1, json.dumps(what).ljust(TOLD_BYTES - 1).encode() + b"\n")


def _become(arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    """What the kernel and the interpreter do for a new process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in ((0, os.devnull), (1, out), (2, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["falgate", *arguments]


def _run() -> int:
    """The command, and the exit code that the interpreter would give it."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  as the interpreter itself
        traceback.print_exc()
        return 1
    return 0


def _fork(line: bytes) -> None:
    child = os.fork()
    if child:
        _tell(pid=child)
        return
    _become(**json.loads(line))
    code = _run()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)  # the interpreter would take apart, and so copy, all that was imported


def _serve() -> None:
    import_module("app.main")
    for command in COMMANDS:
        import_module(f"app.cli.{command}")
    gc.freeze()
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([0, waking], [], [])[0]
        if waking in ready:
            os.read(waking, 4096)
            while (ended := _ended()) is not None:
                _tell(ended=ended[0], code=os.waitstatus_to_exitcode(ended[1]))
        if 0 in ready:
            line = os.read(0, 65_536)
            if not line:
                return
            _fork(line)


def _ended() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


if __name__ == "__main__":
    _serve()

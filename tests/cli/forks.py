"""Commands forked from one process that has imported them all: to import them takes a second each time.

`python -m tests.cli.forks` reads orders, one a line, and answers each with the exit code of its command.
"""

import atexit
import gc
import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from app.cli import main

COMMANDS: Final = ("serve", "migrate", "demo", "sandbox", "keys", "audit", "recover")


class Forks:
    """The process that forks, started with the first order."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path) -> int:
        """The exit code of a command. Raises TimeoutError after a minute; then it is gone."""
        process = self._process = self._process or self._start()
        if process.stdin is None or process.stdout is None:
            raise AssertionError
        order = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        process.stdin.write(json.dumps(order | {"out": str(out), "err": str(err)}) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], 60)[0]:
            self.end()
            raise TimeoutError(f"{arguments} does not end: {err.read_text()}")
        return int(process.stdout.readline())

    def end(self) -> None:
        """End it, and whatever command still runs."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, 9)
            with process:
                process.wait()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.cli.forks"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )


def _become(arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    """What the kernel and the interpreter do for a new process."""
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


def _serve() -> None:
    import_module("app.main")
    for command in COMMANDS:
        import_module(f"app.cli.{command}")
    gc.freeze()
    while line := os.read(0, 65_536):
        child = os.fork()
        if not child:
            _become(**json.loads(line))
            code = _run()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(code)  # the interpreter would take apart, and so copy, all that was imported
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, b"%d\n" % code)


if __name__ == "__main__":
    _serve()

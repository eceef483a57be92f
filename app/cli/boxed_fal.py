"""The sandbox as a child of ours: FAL_KEY=sandbox."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import app
from app.cli.database import Decided
from app.cli.refusals import Refusal

_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL")
_END_WITHIN_SECONDS: Final = 3


@contextmanager
def running_sandbox(*options: str) -> Iterator[str]:
    """A sandbox on a free loopback port, for as long as the block; gives its URL. It sees none of our secrets.

    It is in a session of its own, so that Ctrl-C reaches us alone and it outlives what we still have to say to it.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["PYTHONPATH"] = str(Path(app.__file__).parent.parent)
    command = [sys.executable, "-P", "-m", "app.sandbox", "--port", "0", "--exit-with", str(os.getpid()), *options]
    with subprocess.Popen(  # noqa: S603  ourselves
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("sandbox: "):
                raise Refusal("The built-in sandbox ended while it was starting.")
            yield line.removeprefix("sandbox: ").strip()
        finally:
            process.terminate()
            try:
                process.wait(_END_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def urls_of(fal_url: str) -> Decided:
    """The settings that name this sandbox wherever the real fal would be called."""
    return {"fal_queue_url": fal_url, "fal_rest_url": fal_url, "fal_api_url": f"{fal_url}/v1"}

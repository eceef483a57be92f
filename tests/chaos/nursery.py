"""The nursery as a run sees it: a process that forks one victim after another."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any


class Nursery:
    """One victim at a time, on one port and one database."""

    def __init__(self, process: asyncio.subprocess.Process, environment: dict[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{environment['PORT']}"
        self.environment = environment
        self.log = log
        self.met: Counter[str] = Counter()
        self.died: Counter[str] = Counter()
        self._process = process
        self._victim = 0
        self._ended = asyncio.Event()
        self._ready = asyncio.Event()
        self._last_words: str | None = None

    async def read(self) -> None:
        """Hear what nursery and victims tell, until the nursery ends."""
        assert self._process.stdout
        async for line in self._process.stdout:
            self._hear(json.loads(line))
        self._ready.set()
        self._ended.set()

    def _hear(self, said: dict[str, Any]) -> None:
        if "met" in said:
            self.met[said["met"]] += 1
        elif "died" in said:
            self.died[said["died"]] += 1
            self.met[said["died"]] += 1
            self._last_words = said["died"]
        elif "ready" in said:
            self._victim = said["ready"]
            self._ready.set()
        elif "ended" in said:
            self._victim = 0
            self._ended.set()

    async def bear(self, label: str | None = None, nth: int = 1) -> None:
        """Let a victim live; it dies at the n-th meeting of `label`, or lives on without one."""
        assert self._process.stdin
        self._ended.clear()
        self._ready.clear()
        self._last_words = None
        order = {} if label is None else {"label": label, "nth": nth}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        waits = [asyncio.ensure_future(event.wait()) for event in (self._ready, self._ended)]
        await asyncio.wait(waits, return_when="FIRST_COMPLETED", timeout=20)
        for wait in waits:
            wait.cancel()
        assert self._process.returncode is None, self.log.read_text()[-3000:]

    async def death(self, *, within_seconds: float) -> str | None:
        """The label that the victim died at; None if it met death from outside, as its time was up."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), within_seconds)
        await self.kill()
        return self._last_words

    async def kill(self) -> None:
        """SIGKILL from outside, wherever it stands."""
        if not self._ended.is_set():
            if self._victim:
                with suppress(ProcessLookupError):
                    os.kill(self._victim, signal.SIGKILL)
            await asyncio.wait_for(self._ended.wait(), 20)

    async def end(self) -> None:
        """No more victims."""
        with suppress(Exception):
            await self.kill()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def run_nursery(settings: dict[str, str], folder: Path) -> AsyncIterator[Nursery]:
    """A nursery whose victims have these settings (by the names in the environment)."""
    log = folder / "victims.log"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **settings}
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.victim",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=environment,
        )
    nursery = Nursery(process, environment, log)
    reading = asyncio.create_task(nursery.read())
    try:
        yield nursery
    finally:
        await nursery.end()
        await reading

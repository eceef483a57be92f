"""Both sides of a comparison: fal in a box, called directly, and the gateway in front of another such fal."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.sandbox.application import Application
from app.sandbox.box import Box, Settings
from app.sandbox.calls import Call
from app.sandbox.jobs import ENDED
from app.sandbox.submits import answer_submit, origin_of
from app.sandbox.webhooks import send_webhooks
from app.sandbox.wire import Protocol, deliver

from .certificate import Certificate
from .serving import Receive, Send, host_of, listen, serve

ROOT = Path(__file__).parent.parent.parent
SPEED = 50.0  # a job takes 80 ms
PROGRAM_SECONDS = 120


class Fal:
    """A pretended fal in this process. Under `/run/` it is `fal.run`: the result in answer to the POST."""

    def __init__(self, public_url: str = "") -> None:
        self.box = Box(Settings(speed=SPEED, public_url=public_url))
        self.host = ""
        self._queue = Application(self.box)

    @property
    def url(self) -> str:
        return self.box.settings.public_url or f"http://{self.host}"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/run/"):
            await self._run(Call({**scope, "path": path.removeprefix("/run")}, receive, send))
        else:
            await self._queue(scope, receive, send)

    async def _run(self, call: Call) -> None:
        answer = await answer_submit(self.box, call)
        if answer.status == 200:
            job = self.box.jobs[json.loads(answer.body)["request_id"]]
            while job.status_at(self.box.read_clock()) != ENDED:
                await asyncio.sleep(0.005)
            answer = job.result(origin_of(self.box, call))
        await deliver(call, answer)

    def calls_about(self, prompt: str) -> list[dict[str, int]]:
        """How often each job with this in its prompt was asked about."""
        return [dict(job.calls) for job in self.box.jobs.values() if prompt in str(job.input)]


@asynccontextmanager
async def run_fal(certificate: Certificate | None = None) -> AsyncIterator[Fal]:
    """Serve one until the block ends, over TLS when there is a certificate."""
    listener = listen()
    fal = Fal(f"https://{host_of(listener)}" if certificate else "")
    async with serve(fal, http=Protocol, certificate=certificate, listener=listener) as host:
        fal.host = host
        webhooks = asyncio.create_task(send_webhooks(fal.box))
        try:
            yield fal
        finally:
            webhooks.cancel()
            with suppress(asyncio.CancelledError):
                await webhooks


@dataclass(frozen=True)
class Done:
    """What a program left behind."""

    code: int
    out: str
    err: str

    @property
    def transcript(self) -> dict[str, Any]:
        """What it printed, as JSON, when all went well."""
        assert self.code == 0, f"{self.out}\n{self.err}"
        return dict(json.loads(self.out))


async def run_program(*command: str | Path, environment: Mapping[str, str], folder: Path = ROOT) -> Done:
    """Run a client's program with these settings and no others, while this loop goes on."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROGRAM_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Done(process.returncode or 0, out.decode(), err.decode())


PYTHON = sys.executable

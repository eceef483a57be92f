"""The sandbox as a process: a port, one line when it is ready, a quick end."""

import asyncio
import contextlib
import os
import socket
import sys
from types import FrameType

import uvicorn

from app.sandbox.application import Application
from app.sandbox.box import Box, Settings
from app.sandbox.webhooks import send_webhooks
from app.sandbox.wire import Protocol

BACKLOG = 4096
TICKS_PER_LOOK = 3  # uvicorn ticks ten times a second


class Server(uvicorn.Server):
    """uvicorn's server that says when it is ready, and leaves at once when told to or when orphaned."""

    def __init__(self, config: uvicorn.Config, box: Box, *, address: str, parent: int | None) -> None:
        super().__init__(config)
        self._box = box
        self._sender: asyncio.Task[None] | None = None
        self._address = address
        self._parent = parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell the address on standard output. The sender of webhooks ends with the loop."""
        await super().startup(sockets)
        self._sender = asyncio.create_task(send_webhooks(self._box))
        sys.stdout.write(f"sandbox: {self._address}\n")
        sys.stdout.flush()

    async def on_tick(self, counter: int) -> bool:
        """Leave when the process that started us is gone."""
        if self._parent and counter % TICKS_PER_LOOK == 0 and os.getppid() != self._parent:
            self.force_exit = True
            return True
        if self._sender and self._sender.done():
            self._sender.result()  # it never ends but by an error of ours
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave without waiting for calls that hang on purpose."""
        self.force_exit = True
        super().handle_exit(sig, frame)


def serve(
    port: int = 0,
    host: str = "127.0.0.1",
    *,
    speed: float = 1.0,
    queue_seconds: float = 1.0,
    render_seconds: float = 3.0,
    concurrency: int | None = None,
    public_url: str = "",
    exit_with: int | None = None,
) -> None:
    """Run the sandbox until SIGTERM or SIGINT; port 0 takes a free one.

    Prints `sandbox: http://HOST:PORT` when it accepts connections. `speed` divides every time (0: the clock
    stands); `concurrency` is how many jobs render at once (None: all); `public_url` is put before the paths in
    answers (unset: the Host that was called). With `exit_with`, the pid of the process that started it,
    it ends within half a second after that one. Raises OSError when the port is taken.
    """
    settings = Settings(speed, queue_seconds, render_seconds, concurrency, public_url.rstrip("/"))
    box = Box(settings)
    config = uvicorn.Config(
        Application(box),
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=BACKLOG) as listener:
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        with contextlib.suppress(KeyboardInterrupt):
            Server(config, box, address=address, parent=exit_with).run(sockets=[listener])

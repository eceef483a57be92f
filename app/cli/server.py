"""uvicorn as we run it: one process, or workers that share a socket; a ready line, a quick end, exit code 0."""

import errno
import resource
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.cli.refusals import Refusal
from app.settings import Settings

if TYPE_CHECKING:  # the supervisor of workers carries nothing of the application
    from app.jobs.rooms import Rooms

_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 75  # longer than nginx keeps an idle connection to us: it never writes into a closed one
_DRAIN_SECONDS: Final = 4  # for open answers; docker stop waits for 10, and closing down takes its time after that
_WORKER_ANSWERS_WITHIN_SECONDS: Final = 15


def uvicorn_config(app: Any, settings: Settings, *, workers: int = 1) -> uvicorn.Config:
    """The one set of options; `app` is an application, or the name of a factory for workers."""
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        loop="uvloop",
        http="app.web.connection:Connection",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_worker_healthcheck=_WORKER_ANSWERS_WITHIN_SECONDS,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises Refusal, in words."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Refusal(f"Cannot listen on {host}:{port}: {_why(error)}.") from None


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is taken, set PORT to another"
        case errno.EACCES:
            return "ports below 1024 belong to root, set PORT to another"
        case _:
            return "HOST must be an address of this machine"


def open_more_files() -> None:
    """Take as many file descriptors as we may: a video on its way takes two, an event stream one.

    systemd and shells give 1,024, which the videos of two keys would use up, and a far higher limit to ask for.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # where that limit is said to be none, another holds
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def url_of(listener: socket.socket) -> str:
    """Where this machine reaches what listens here."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  this is for reading, not for binding
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def say_ready(listener: socket.socket) -> None:
    """One line on standard output, for people and for programs that wait for it."""
    click.echo(f"falgate: {url_of(listener)} (docs: {url_of(listener)}/docs)")


def release_waiting(app: Any) -> None:
    """Let `Prefer: wait` and event streams end now: their callers ask the next process."""
    rooms: Rooms = app.state.rooms
    rooms.release_waiting()


class Server(uvicorn.Server):
    """uvicorn's server that says when it is ready; a signal ends it, and is not raised again afterwards."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so. Raises Refusal where uvicorn would end the process."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise Refusal("The gateway could not start; the log above says why.") from None
        if self.started and sockets:
            self.ready(sockets[0])

    def ready(self, listener: socket.socket) -> None:
        """Connections are accepted from here on."""
        say_ready(listener)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer whoever waits first, or the open answers would last until they are cut off."""
        release_waiting(self.config.app)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """For good: whatever comes while we end asks for what is under way already."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


class Workers(Multiprocess):
    """uvicorn's supervisor that says when all its workers are ready, and whether they ever were."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config, [listener])
        self._listener = listener
        self._is_ready = False

    @property
    def has_failed(self) -> bool:
        """Whether it ended because a worker could not start."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def keep_subprocess_alive(self) -> None:
        """Look after the workers, each half second."""
        super().keep_subprocess_alive()
        if not self._is_ready and all(process.is_ready() for process in self.processes):
            self._is_ready = True
            say_ready(self._listener)

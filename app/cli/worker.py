"""One of several workers: reads the settings again, in its own process, and makes the application."""

import asyncio
import json
import os
import signal
import sys
import threading
from multiprocessing import connection, parent_process
from types import FrameType
from typing import Any, Final

import click
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from app.cli.database import Decided
from app.cli.server import release_waiting
from app.logs import set_up_logs
from app.main import create_app
from app.settings import SettingsError, from_environment
from app.web.memory import settle_memory

DECIDED: Final = "FALGATE_DECIDED"
"""Internal: what `falgate serve` decided for its workers, as JSON. Nobody else sets or reads it."""


def hand_down(decided: Decided) -> None:
    """Leave in the environment, which workers inherit, what `make_app` shall find there."""
    os.environ[DECIDED] = json.dumps(decided)


def make_app() -> FastAPI:
    """The application of this worker; uvicorn calls this."""
    decided: Decided = json.loads(os.environ[DECIDED])
    try:
        settings = from_environment(**decided)
    except SettingsError as error:
        click.echo(f"falgate: {error}", err=True)
        sys.exit(STARTUP_FAILURE)
    set_up_logs(level=settings.log_level, layout=settings.log_format, secrets=settings.secrets)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    app = create_app(settings)
    settle_memory()
    _release_at_signal(app)
    return app


def _release_at_signal(app: FastAPI) -> None:
    """Do before uvicorn's own handler, which is in place by now, what `Server.shutdown` does in a single process."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        uvicorns = signal.getsignal(number)

        def handle(number: int, frame: FrameType | None, then: Any = uvicorns) -> None:
            loop.call_soon_threadsafe(release_waiting, app)
            then(number, frame)

        signal.signal(number, handle)


def _end_with_parent() -> None:
    """A supervisor that was killed cannot tell its workers: they would keep the port."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

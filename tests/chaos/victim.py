"""A gateway that kills itself: `python -m tests.chaos.victim` forks one after another, as it is told on its input.

Each order is a line `{"label", "nth"}` (or `{}`: live). The victim is the real gateway, served as `falgate serve`
serves it, forked from a process that has imported and wired it, so that a restart takes no second. What it does at a
failpoint is wrapped around it here, before the fork; at the n-th meeting of the ordered one it ends by SIGKILL, the
signal that nothing in the process can see, and everything that it had open ends as it does for `kill -9`.

Lines on its output: `{"ready": pid}`, `{"met": label}` at the first meeting of each in a life, `{"died": label}` from
the dying, `{"ended": status}` as the parent saw it.
"""

import importlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from types import FrameType
from typing import Any, Final

from fastapi import FastAPI

from app import db, wiring
from app.cli.server import Server, listen, uvicorn_config
from app.deliveries import claims, post, sender
from app.fal import KeySet, Platform, Queue
from app.fal.wire import Sending
from app.logs import set_up_logs
from app.main import create_app
from app.settings import Settings, load_settings
from tests.chaos.failpoints import CALLS

_PASSED_OVER: Final = (
    "app.db",
    "app.fal",
    "app.outward",
    "app.deliveries.post",
    "contextlib",
    "sqlalchemy",
    "asyncio",
    "tests.chaos",
)
_CALLERS: Final = ("/v1/text-to-video", "/v1/jobs", "/webhooks/fal/", "/fal/")
_ID: Final = re.compile(r"(?<=/)(job_[0-9a-f]{32}|(?<=fal/)[^/]+)")

HASTE: Final[dict[str, dict[str, object]]] = {
    "app.fal.queue": {"SPARE_SECONDS": 0.5},
    "app.jobs.at_fal.claims": {"UNCONFIRMED_EVERY_SECONDS": 0.3, "LONGEST_INTERVAL_SECONDS": 0.3},
    "app.jobs.at_fal.moves": {"UNCONFIRMED_EVERY_SECONDS": 0.3},
    "app.deliveries.retries": {"_STEPS": (0.1, 0.2, 0.4)},
    "app.jobs.at_fal.doubts": {"SERVER_ERROR_FOR_SECONDS": 2.0, "REFUSAL_FOR_SECONDS": 1.0},
    "app.jobs.at_fal.dispatch": {
        "_LEASE_MARGIN_SECONDS": 0.3,
        "_SEND_WITHIN_SECONDS": 0.5,
        "_LONGEST_BACKOFF_SECONDS": 0.1,
    },
    "app.jobs.at_fal.standing": {"_EVERY_SECONDS": 0.2},
    "app.jobs.at_fal.upstream": {
        "LONGEST_PAUSE_SECONDS": 0.05,
        "LONGEST_PAUSE_LOST_SECONDS": 0.05,
        "_NOTHING_TO_SEND_SECONDS": 0.1,
    },
    "app.jobs.at_fal.strays": {"_LONGEST_INTERVAL_SECONDS": 1},
    "app.jobs.at_fal.track": {"_LONGEST_TROUBLE_SECONDS": 0.2, "_LEASES_EVERY_SECONDS": 0.1},
}
"""What is shortened so that a life fits between two kills. Their order stays: sending is over before a lease ends."""

CONNECT_SECONDS: Final = 0.5
READ_SECONDS: Final = 0.7
TRY_SECONDS: Final = 0.6


class Reaper:
    """Counts the meetings of each failpoint in one life, and ends it at the one that was ordered."""

    def __init__(self) -> None:
        self._met: Counter[str] = Counter()
        self._order: tuple[str, int] | None = None

    def order(self, label: str | None, nth: int) -> None:
        self._met.clear()
        self._order = (label, nth) if label is not None else None

    def pass_by(self, label: str) -> None:
        self._met[label] += 1
        if (label, self._met[label]) == self._order:
            tell(died=label)
            os.kill(os.getpid(), signal.SIGKILL)
        if self._met[label] == 1:
            tell(met=label)


def tell(**what: object) -> None:
    """One line, written at once: what is in the pipe outlives the writer."""
    os.write(1, json.dumps(what).encode() + b"\n")


def place() -> str:
    """Who is calling: the first function of the application above the machinery."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith(_PASSED_OVER) and module.startswith("app."):
            return f"{module}:{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "nowhere"


def plant(reaper: Reaper) -> None:
    """Wrap what stands between two steps."""
    _plant_commit(reaper)
    for holder, called in (("fal", Queue), ("platform", Platform), ("signatures", KeySet), ("post", post.Post)):
        for call in CALLS[holder]:
            _plant_call(called, call, f"{holder}.{call}", reaper)
    _plant_sent(Sending, "fal.submit", reaper)
    _plant_sent(post.Sending, "post.send", reaper)


def _plant_commit(reaper: Reaper) -> None:
    commit = db._commit

    async def mortal_commit(connection: Any, plain: Any) -> None:
        where = place()
        reaper.pass_by(f"before commit {where}")
        await commit(connection, plain)
        reaper.pass_by(f"after commit {where}")

    db._commit = mortal_commit


def _plant_sent(watching: Any, what: str, reaper: Reaper) -> None:
    watch = watching.__call__

    async def mortal_watch(self: Any, event: str, info: object) -> None:
        await watch(self, event, info)
        if event == "http11.send_request_body.complete":
            reaper.pass_by(f"sent {what} {place()}")

    watching.__call__ = mortal_watch


def _plant_call(holder: type, name: str, what: str, reaper: Reaper) -> None:
    call: Callable[..., Awaitable[Any]] = getattr(holder, name)

    async def mortal(where: str, asking: Awaitable[Any]) -> Any:
        reaper.pass_by(f"before {what} {where}")
        answer = await asking
        reaper.pass_by(f"after {what} {where}")
        return answer

    # who calls is known when the call is made; it may be awaited elsewhere
    setattr(holder, name, lambda self, *given, **named: mortal(place(), call(self, *given, **named)))


class Mortal:
    """The application, and a failpoint around each answer."""

    def __init__(self, app: FastAPI, reaper: Reaper) -> None:
        self._app = app
        self._reaper = reaper
        self.state = app.state

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        what = f"answer {_ID.sub('{id}', scope['path'])}" if scope["path"].startswith(_CALLERS) else "answer (admin)"

        async def mortal_send(message: MutableMapping[str, Any]) -> None:
            is_start = message["type"] == "http.response.start"
            if is_start:
                self._reaper.pass_by(f"before {what}")
            await send(message)
            if not is_start and not message.get("more_body"):
                self._reaper.pass_by(f"after {what}")

        await self._app(scope, receive, mortal_send)


def haste(put: Callable[[Any, str, Any], object] = setattr) -> None:
    """Shorten what is waited for; a constant that is no more raises."""
    for name, constants in HASTE.items():
        module = importlib.import_module(name)
        for constant, value in constants.items():
            getattr(module, constant)
            put(module, constant, value)
    put(sender, "Post", partial(post.Post, try_seconds=TRY_SECONDS))
    in_sql = f"secs => {claims.LEASE_SECONDS}"
    if in_sql not in claims._CLAIM:
        raise AttributeError("the lease of a delivery has gone")
    put(claims, "_CLAIM", claims._CLAIM.replace(in_sql, f"secs => {2 * TRY_SECONDS}"))
    put(wiring, "Queue", partial(Queue, connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS))


class _Server(Server):
    """Ends when the process that forked it is gone, too."""

    nursery: int

    def ready(self, listener: socket.socket) -> None:
        del listener
        tell(ready=os.getpid())

    async def on_tick(self, counter: int) -> bool:
        return os.getppid() != self.nursery or await super().on_tick(counter)


def _live(app: Mortal, settings: Settings, nursery: int) -> None:
    with listen(settings.host, settings.port) as listener:
        server = _Server(uvicorn_config(app, settings))
        server.nursery = nursery
        server.run([listener])


def main() -> None:
    settings = load_settings(os.environ, env_file=None)
    set_up_logs(level="warning", layout="text", secrets=settings.secrets)
    haste()
    reaper = Reaper()
    plant(reaper)
    app = Mortal(create_app(settings), reaper)
    nursery = os.getpid()
    tell(nursery=nursery)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            reaper.order(order.get("label"), order.get("nth", 1))
            _live(app, settings, nursery)
            os._exit(0)
        tell(ended=_wait_for(child))


def _wait_for(child: int) -> int:
    parent = os.getppid()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.003)


if __name__ == "__main__":
    main()

"""The keeper: the process between owner and server that starts the server and ends it when the owner ends.

It reads one order (a JSON line) from its standard input, answers with one line, and stays until its input
ends. Run by `python -I -S`, so it imports nothing but the standard library and its neighbours.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.embedded.data_folder import Claim, Refused, claim, require_major, server_account
from app.embedded.fresh_folder import make_fresh, readable_binaries
from app.embedded.server import Server

PIPE = 0  # our standard input, and the owner's hold on us
STAY_SECONDS = 0.5


class OwnerGone(Exception):  # noqa: N818 (it is what happened)
    """The owner has ended or has let go: whatever is running is to be ended too."""


def keep() -> None:
    """The whole life of a keeper; its answer is `{"socket_dir": …}` or `{"refusal": …}`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # our end is the owner's end, nothing else
    os.umask(0o022)
    order = json.loads(sys.stdin.readline() or "null")
    if order is None:
        return
    try:
        _serve(order)
    except OwnerGone:
        pass
    except Refused as refused:
        _answer({"refusal": str(refused)})
    except OSError as error:
        begin = f"The embedded PostgreSQL cannot be started in {order['data_dir']}"
        _answer({"refusal": f"{begin}: {error}{_why(error)}."})


def _serve(order: dict[str, Any]) -> None:
    owner = int(order["owner"])

    def pause(seconds: float = 0.01) -> None:
        _require_owner(owner, seconds)

    claimed = claim(Path(order["data_dir"]), owner=owner, pause=pause)
    with _leaving(claimed) as at_end:
        account = server_account(claimed.cluster)
        require_major(claimed.cluster, order["major"])
        fresh = make_fresh(account)
        at_end.callback(shutil.rmtree, fresh.folder, ignore_errors=True)
        binaries = Path(order["binaries"])
        if account is not None:
            binaries = readable_binaries(binaries, fresh.folder)
        server = Server(claimed, account, binaries, shares=(claimed.lock, fresh.lock), pause=pause)
        at_end.callback(server.close)
        server.start(order["settings"], fresh.socket_dir)
        _answer({"socket_dir": str(fresh.socket_dir)})
        while server.is_running():
            pause(STAY_SECONDS)


@contextlib.contextmanager
def _leaving(claimed: Claim) -> Iterator[contextlib.ExitStack]:
    """Before anything is torn down, say that the folder is about to be free: the next owner then waits."""
    with contextlib.ExitStack() as at_end:
        try:
            yield at_end
        finally:
            claimed.name_owner(0)
            at_end.close()


def _require_owner(owner: int, seconds: float) -> None:
    """Wait so long, or raise OwnerGone: at the end of our input, or when our parent is another.

    The second is for an owner whose forked children still hold the pipe.
    """
    readable, _, _ = select.select([PIPE], [], [], seconds)
    if readable or os.getppid() != owner:
        raise OwnerGone


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError) and os.geteuid() == 0:
        return "; root without CHOWN, SETUID, SETGID and DAC_OVERRIDE cannot start it, any other user can"
    return ""


def _answer(said: dict[str, str]) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(said), flush=True)  # noqa: T201 (the owner reads it)

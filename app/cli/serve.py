"""`falgate serve`: the gateway, once everything it stands on has been looked at."""

import asyncio
import logging
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn
from urllib.parse import urlsplit

import click

from app.cli.boxed_fal import running_sandbox, urls_of
from app.cli.database import Decided, Given, embedded_option, open_database, place_of, settings_with_database
from app.cli.installation import require_installation
from app.cli.refusals import Refusal
from app.cli.server import Server, Workers, listen, open_more_files, uvicorn_config
from app.fal import key_id_of
from app.jobs.unknown.recover import count_of_other_keys
from app.logs import set_up_logs
from app.output_store import StoreTrouble, open_store
from app.settings import Settings, from_environment

log = logging.getLogger("falgate")

_FALS_OWN: Final = re.compile(r"[^:]+:[^:]+")


@click.command
@embedded_option
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on one port.")
def command(*, embedded: bool, workers: int) -> None:
    """Serve the gateway until SIGTERM or Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    with settings_with_database(embedded=embedded) as given:
        settings = given.settings
        set_up_logs(level=settings.log_level, layout=settings.log_format, secrets=settings.secrets)
        asyncio.run(_require_store(settings))
        asyncio.run(_require_database(given, embedded=embedded))
        with _fal_of(given) as ready:
            open_more_files()  # after our own PostgreSQL and sandbox, which need no more
            if workers == 1:
                _serve_here(ready)
            else:
                _serve_in_workers(ready, workers)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """Before there is a server: undo what was started. A second signal must not disturb that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


async def _require_database(given: Given, *, embedded: bool) -> None:
    migrate = "falgate migrate --embedded" if embedded else "falgate migrate"
    async with open_database(given.settings) as db:
        warning = await require_installation(db, settings=given.settings, migrate=migrate)
        of_other_keys = await count_of_other_keys(db, fal_key_id=key_id_of(given.settings.fal_key))
    if warning:
        log.warning(warning)
    if of_other_keys:
        log.warning(
            "%d jobs in flight were sent with another FAL_KEY. If it was a key of the same fal account they go on; if"
            " not, end this and serve with that key until they have ended, else an admin must resolve them",
            of_other_keys,
        )


async def _require_store(settings: Settings) -> None:
    """A place that refuses us would lose every video; one that is away just now may come back."""
    try:
        store = open_store(settings)
        if store is not None:
            await store.require_writable()
    except StoreTrouble as trouble:
        if trouble.is_refusal:
            raise Refusal(f"OUTPUT_STORE cannot be used: {trouble}.") from None
        log.warning("OUTPUT_STORE cannot be reached just now, and videos wait at fal: %s", trouble)


@contextmanager
def _fal_of(given: Given) -> Iterator[Given]:
    """The fal that is configured or, for FAL_KEY=sandbox, our own, which alone is then called."""
    if not given.settings.is_sandbox:
        yield given
        return
    with running_sandbox() as url:
        log.warning("FAL_KEY=sandbox: videos and dollars are play money, fal is the built-in one at %s", url)
        decided: Decided = {**given.decided, **urls_of(url)}
        yield Given(from_environment(**decided), decided)


def _say_what_is_used(settings: Settings) -> None:
    """The host of each, and no secret: whoever mixed up two installations sees it in the first line."""
    fal, database = urlsplit(settings.fal_queue_url).netloc, place_of(settings.database_url.get_secret_value())
    log.info("fal is %s, the database is %s", fal, database)
    if not settings.is_sandbox and not _FALS_OWN.fullmatch(settings.fal_key.get_secret_value()):
        log.warning("FAL_KEY does not look like fal's id:secret")


def _serve_here(given: Given) -> None:
    from app.main import create_app  # noqa: PLC0415  a supervisor of workers carries none of it
    from app.web.memory import settle_memory  # noqa: PLC0415

    app = create_app(given.settings)
    settle_memory()
    with listen(given.settings.host, given.settings.port) as listener:
        _say_what_is_used(given.settings)
        Server(uvicorn_config(app, given.settings)).run([listener])


def _serve_in_workers(given: Given, workers: int) -> None:
    from app.cli.worker import hand_down  # noqa: PLC0415

    hand_down(given.decided)
    with listen(given.settings.host, given.settings.port) as listener:
        _say_what_is_used(given.settings)
        supervisor = Workers(uvicorn_config("app.cli.worker:make_app", given.settings, workers=workers), listener)
        supervisor.run()
    if supervisor.has_failed:
        raise Refusal("A worker could not start; the log above says why.")

"""`falgate demo`: everything from nothing, with play money. `make run` is the same, and stays."""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from app.catalogue.registry import load_catalogue
from app.cli.boxed_fal import running_sandbox, urls_of
from app.cli.database import EMBEDDED_FOLDER, dsn_of, open_database
from app.cli.installation import find_mark
from app.cli.migrate import migrate
from app.cli.refusals import Refusal
from app.cli.server import Server, listen, url_of, uvicorn_config
from app.cli.tour import Tour
from app.db import SCHEMA_REVISION
from app.embedded import EmbeddedPostgres
from app.ledger.audit import audit
from app.logs import set_up_logs
from app.main import create_app
from app.settings import SANDBOX, Settings, load_settings

VIDEOS: Final = Path("data/demo")

_SECRET_KEY: Final = "what play money seals is no secret"  # noqa: S105  the same at every start, so that seals open


@click.command
@click.option("--stay", is_flag=True, help="Ask for no videos: stay up, and print a curl to paste.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to listen (with --stay 8000, else a free one).")
@click.option("--speed", type=float, default=1.0, show_default=True, help="How much faster than life the sandbox is.")
def command(*, stay: bool, port: int | None, speed: float) -> None:
    """Try falgate: a text-to-video and an image-to-video on a PostgreSQL of our own and a pretended fal.

    Reads neither the environment nor .env: whatever is set, this is play money.
    """
    click.secho("falgate demo", bold=True, nl=False)
    click.echo(": fal is the built-in sandbox, its dollars are play money.\n")
    with (
        EmbeddedPostgres(EMBEDDED_FOLDER) as postgres,
        running_sandbox("--speed", str(speed)) as fal_url,
        listen("127.0.0.1", (8000 if stay else 0) if port is None else port) as listener,
    ):
        settings = asyncio.run(_prepare(dsn_of(postgres, is_sandbox=True), fal_url, url_of(listener)))
        set_up_logs(level="warning", layout="text", secrets=settings.secrets)
        _tell("PostgreSQL", f"our own in ./{EMBEDDED_FOLDER}, schema {SCHEMA_REVISION}")
        _tell("sandbox", fal_url)
        asyncio.run(_serve_for(settings, listener, _stay if stay else _show))


async def _prepare(database_url: str, fal_url: str, public_url: str) -> Settings:
    """Settings of the demo's own, on a database that is up to date; the sandbox's webhooks reach it."""

    def settings_with(timezone: str) -> Settings:
        return load_settings(
            {},
            env_file=None,
            fal_key=SANDBOX,
            **urls_of(fal_url),
            public_url=public_url,
            database_url=database_url,
            admin_key=secrets.token_urlsafe(24),
            secret_key=_SECRET_KEY,
            timezone=timezone,
            poll_seconds="0.5",
        )

    settings = settings_with("UTC")
    async with open_database(settings) as db:
        mark = await find_mark(db) if await db.schema_revision() is not None else None
        settings = settings_with(mark.timezone) if mark else settings
        await migrate(db, settings=settings, catalogue=load_catalogue(), now=datetime.now(UTC))
    return settings


class _QuietServer(Server):
    """A server whose readiness is for us to know."""

    is_ready: asyncio.Event

    def ready(self, listener: socket.socket) -> None:
        """Wake whoever waits for it."""
        del listener
        self.is_ready.set()


async def _serve_for(
    settings: Settings, listener: socket.socket, show: Callable[[Settings, Tour], Awaitable[bool]]
) -> None:
    """Serve while `show` runs, and for as long as it wants; a signal ends both."""
    server = _QuietServer(uvicorn_config(create_app(settings), settings))
    server.is_ready = asyncio.Event()
    serving = asyncio.create_task(server.serve([listener]))

    async def visit() -> bool:
        await server.is_ready.wait()
        async with Tour(url_of(listener), admin_key=_shown(settings)) as tour:
            return await show(settings, tour)

    visiting = asyncio.create_task(visit())
    await asyncio.wait({serving, visiting}, return_when=asyncio.FIRST_COMPLETED)
    if server.should_exit or serving.done():
        visiting.cancel()
        await asyncio.gather(visiting, return_exceptions=True)
        await serving
        raise Refusal("The demo was ended before it was over.")
    if visiting.exception() is not None or not visiting.result():
        server.should_exit = True
    await serving
    visiting.result()


async def _stay(settings: Settings, tour: Tour) -> bool:
    """Make people, and leave the rest to whoever reads this."""
    person = await tour.make_person()
    click.echo(f"""
The gateway stays up until Ctrl-C. Every route, to try in a browser: {tour.url}/docs

Paste this into another terminal for a video:

  curl -sS {tour.url}/v1/text-to-video \\
    -H 'Authorization: Bearer {person.secret}' \\
    -H 'Content-Type: application/json' -H 'Prefer: wait=60' \\
    -d '{{"prompt": "a paper boat on a quiet lake"}}'

And this, for the journeys of the README:

  export URL={tour.url} KEY={person.secret} ADMIN_KEY={_shown(settings)}
""")
    return True


async def _show(settings: Settings, tour: Tour) -> bool:
    """Two videos from the first question to the last cent."""
    person = await tour.make_person()
    before = await tour.read_quota(person)
    click.echo("\nAsking for two videos, and following their events:")
    jobs = await tour.ask_for_videos(person)
    click.echo("\nSaved (each http link lives as long as its sandbox: here until the demo ends):")
    for kind, job in jobs.items():
        await tour.save_video(job, VIDEOS / f"{kind}.mp4")
    click.echo("\nWhat it cost:")
    for kind, job in jobs.items():
        await tour.tell_cost(person, kind, job)
    after = await tour.read_quota(person)
    click.echo("\nThe quota:")
    _tell("before", before)
    _tell("after", after)
    async with open_database(settings) as db:
        differences = await audit(db, zone=settings.zone)
    if differences:
        raise Refusal(f"The ledger does not agree: {differences[0]}.")
    _tell("audit", "the ledger agrees")
    click.echo("\nNext: `make run` stays up and prints a curl to paste.")
    return False


def _tell(what: str, text: object) -> None:
    click.echo(f"  {what:<12}{text}")


def _shown(settings: Settings) -> str:
    return settings.admin_key.get_secret_value() if settings.admin_key else ""

"""The database of a command: which one, opened and closed, and its errors in words."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypedDict
from urllib.parse import parse_qs, urlsplit

import asyncpg
import click
from sqlalchemy.exc import SQLAlchemyError

from app.cli.refusals import Refusal
from app.db import CommitUnknown, Database, is_database_away
from app.embedded import EmbeddedPostgres
from app.settings import Settings, SettingsError, from_environment, read_env_file

EMBEDDED_FOLDER: Final = Path("data/postgres")
_UNKNOWN_YET: Final = "postgresql:///embedded"
_SANDBOX_DATABASE: Final = "falgate_sandbox"
_POOL_SIZE: Final = 3

embedded_option = click.option(
    "--embedded", is_flag=True, help=f"Use our own PostgreSQL in ./{EMBEDDED_FOLDER} instead of DATABASE_URL."
)


class Decided(TypedDict, total=False):
    """Settings that a command decides itself: the database that it started, the fal that it started."""

    database_url: str
    fal_queue_url: str
    fal_rest_url: str
    fal_api_url: str


class Given(NamedTuple):
    """The settings of a command, and those of them that it decided itself."""

    settings: Settings
    decided: Decided


@contextmanager
def settings_with_database(*, embedded: bool) -> Iterator[Given]:
    """The settings; with `embedded` a PostgreSQL of our own runs until the block ends.

    Raises SettingsError and EmbeddedPostgresError.
    """
    if not embedded:
        yield Given(from_environment(), {})
        return
    _refuse_second_database()
    wanted = from_environment(database_url=_UNKNOWN_YET)
    with EmbeddedPostgres(EMBEDDED_FOLDER) as server:
        decided: Decided = {"database_url": dsn_of(server, is_sandbox=wanted.is_sandbox)}
        yield Given(from_environment(**decided), decided)


def dsn_of(server: EmbeddedPostgres, *, is_sandbox: bool) -> str:
    """Sandbox dollars have a database of their own: whoever tried the demo can go on with a real key."""
    if not is_sandbox:
        return server.dsn()
    server.ensure_database(_SANDBOX_DATABASE)
    return server.dsn(_SANDBOX_DATABASE)


def place_of(url: str) -> str:
    """The host and the name in a DATABASE_URL, and nothing else of it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["this machine"])[0]
    return f"{host}/{parts.path.removeprefix('/')}"


def _refuse_second_database() -> None:
    written = read_env_file(Path(".env"))
    for name in ("DATABASE_URL", "DATABASE_URL_FILE"):
        if os.environ.get(name) or written.get(name):
            raise SettingsError(f"--embedded and {name} name two databases: leave one of them out.")


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database, reached once to be sure of it. Raises Refusal, in words, for whatever it refuses."""
    db = Database(settings.database_url.get_secret_value(), pool_size=_POOL_SIZE, command_seconds=None)
    try:
        await _reach(db)
        yield db
    except CommitUnknown:
        raise Refusal(
            "The connection broke at the end: it may have happened. Look, then give the command again."
        ) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError) as error:
        raise Refusal(_in_words(error)) from None
    finally:
        await db.close()


async def _reach(db: Database) -> None:
    try:
        connection = await db.connect()
    except ValueError:  # of the URL: its message may show parts of it
        raise SettingsError("DATABASE_URL cannot be read: is a special character not percent-encoded?") from None
    await connection.close()


def _in_words(error: BaseException) -> str:
    """PostgreSQL's own message may quote values: only its code is told."""
    while isinstance(error, SQLAlchemyError) and error.__cause__ is not None:
        error = error.__cause__
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return "PostgreSQL refuses the user or the password of DATABASE_URL."
        case asyncpg.InvalidCatalogNameError():
            return "PostgreSQL has no database of the name in DATABASE_URL: create it first."
        case asyncpg.InsufficientPrivilegeError():
            return "The user of DATABASE_URL may not do this: let it own the database."
        case asyncpg.LockNotAvailableError():
            return "Something has locked the database for too long, another migrate perhaps: try again."
        case _ if is_database_away(error):
            return "PostgreSQL cannot be reached at DATABASE_URL: is it running, and is the address right?"
        case _:
            code = getattr(error, "sqlstate", None) or type(error).__name__
            return f"PostgreSQL refuses what falgate asks of it ({code})."

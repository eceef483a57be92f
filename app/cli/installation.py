"""What a database is to this falgate: how far its schema is, whose dollars it counts, and in which TIMEZONE."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from sqlalchemy import text

from app.cli.database import open_database
from app.db import SCHEMA_REVISION, Database
from app.settings import Settings, SettingsError


class Mark(NamedTuple):
    """What the first migrate wrote down, for ever."""

    is_sandbox: bool
    timezone: str


@asynccontextmanager
async def open_installation(settings: Settings) -> AsyncIterator[Database]:
    """The database of a falgate that this code can work on. Raises SettingsError, Refusal."""
    async with open_database(settings) as db:
        await require_installation(db, settings=settings)
        yield db


async def require_installation(db: Database, *, settings: Settings, migrate: str = "falgate migrate") -> str | None:
    """Raise SettingsError unless this code can work on the database; returns a warning if its schema is newer.

    `migrate` is the command that would mend it.
    """
    revision = await db.schema_revision()
    if revision is None:
        raise SettingsError(f"The database is empty: run `{migrate}` first.")
    if revision < SCHEMA_REVISION:  # numbers of four digits
        raise SettingsError(f"The database is at {revision}, this falgate needs {SCHEMA_REVISION}: run `{migrate}`.")
    if contradiction := await find_contradiction(db, settings=settings):
        raise SettingsError(contradiction)
    if await find_mark(db) is None:
        raise SettingsError(f"The last migrate was cut short: run `{migrate}` again.")
    if revision > SCHEMA_REVISION:
        return f"The database is at {revision}, newer than the {SCHEMA_REVISION} this falgate was made for: update it."
    return None


async def find_contradiction(db: Database, *, settings: Settings) -> str | None:
    """What in these settings contradicts the mark that the first migrate wrote, as one sentence."""
    row = await find_mark(db)
    if row is None:
        return None
    if row.is_sandbox != settings.is_sandbox:
        kind, other = ("the sandbox's", "a real one") if row.is_sandbox else ("a real fal's", "the sandbox's")
        return f"This database is {kind} and FAL_KEY is {other}: use another DATABASE_URL, so that dollars never mix."
    if row.timezone != settings.timezone:
        return (
            f"This database counts its days in {row.timezone} and TIMEZONE is {settings.timezone}: "
            f"set TIMEZONE={row.timezone}, since windows already counted cannot move."
        )
    return None


async def find_mark(db: Database) -> Mark | None:
    """The mark of a database that has a schema; None when its first migrate was cut short."""
    async with db.reading() as tx:
        row = (await tx.execute(text("SELECT is_sandbox, timezone FROM installation"))).one_or_none()
    return Mark(row.is_sandbox, row.timezone) if row else None

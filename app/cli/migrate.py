"""Bringing a database up to date: migrations, its mark, the first prices. Replicas that start together do it once."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

import migrations
from app.accounts import tables as _accounts  # noqa: F401  alembic's env wants every table known
from app.catalogue.prices import seed_prices
from app.catalogue.registry import Catalogue
from app.db import Database
from app.jobs import tables as _jobs  # noqa: F401
from app.ledger import tables as _ledger  # noqa: F401
from app.settings import Settings, SettingsError

_LOCK: Final = 7_341_002
_LOCK_SECONDS: Final = 60


async def migrate(db: Database, *, settings: Settings, catalogue: Catalogue, now: datetime) -> list[str]:
    """Bring the database to the newest schema in one transaction; returns endpoints that got their first price.

    Raises SettingsError when the database belongs to another kind of fal or another TIMEZONE.
    """
    await move(db, lambda config: command.upgrade(config, "head"))
    async with db.begin() as tx:
        await tx.execute(
            text(
                "INSERT INTO installation (is_sandbox, timezone) VALUES (:sandbox, :zone) ON CONFLICT DO NOTHING"
            ),
            {"sandbox": settings.is_sandbox, "zone": settings.timezone},
        )
        await tx.execute(text("LOCK TABLE prices IN SHARE ROW EXCLUSIVE MODE"))
        seeded = await seed_prices(tx, catalogue, now=now)
    if contradiction := await find_contradiction(db, settings=settings):
        raise SettingsError(contradiction)
    return seeded


async def move(db: Database, do: Callable[[Config], None]) -> None:
    """Run an alembic command in one transaction, alone: another that migrates is waited for."""

    def with_connection(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        do(config)

    async with db.begin() as tx:
        await tx.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
        await tx.execute(text("SET LOCAL statement_timeout = 0"))
        await tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await tx.run_sync(with_connection)


async def find_contradiction(db: Database, *, settings: Settings) -> str | None:
    """What in these settings contradicts the mark that the first migrate wrote, as one sentence."""
    async with db.reading() as tx:
        row = (await tx.execute(text("SELECT is_sandbox, timezone FROM installation"))).one()
    if row.is_sandbox != settings.is_sandbox:
        kind = "sandbox's" if row.is_sandbox else "real fal's"
        return (
            f"This database is a {kind}, FAL_KEY is not: use another DATABASE_URL, so that dollars never mix."
        )
    if row.timezone != settings.timezone:
        return (
            f"This database counts its days in {row.timezone}, TIMEZONE says {settings.timezone}: "
            f"set TIMEZONE={row.timezone}, since windows already counted cannot move."
        )
    return None

"""`falgate migrate`: migrations, the database's mark, the first prices. Replicas that start together do it once."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import click
from alembic import command as alembic
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

import migrations
from app.accounts import tables as _accounts  # noqa: F401  alembic's env wants every table known
from app.catalogue.prices import seed_prices
from app.catalogue.registry import Catalogue, load_catalogue
from app.cli.database import embedded_option, open_database, settings_with_database
from app.cli.installation import find_contradiction
from app.cli.read_only import make_read_only_role, require_role_name
from app.db import SCHEMA_REVISION, Database, Lock
from app.deliveries import tables as _deliveries  # noqa: F401
from app.files import tables as _files  # noqa: F401
from app.jobs import tables as _jobs  # noqa: F401
from app.ledger import tables as _ledger  # noqa: F401
from app.ledger.spend import is_spend_missing, rebuild_spend
from app.outputs import tables as _outputs  # noqa: F401
from app.reports import tables as _reports  # noqa: F401
from app.settings import Settings, SettingsError
from app.wiring import utc_now

_LOCK_SECONDS: Final = 60


class Migrated(NamedTuple):
    """What a migrate did: from which revision to which, and the endpoints that got their first price."""

    before: str | None
    after: str | None
    priced: list[str]

    def __str__(self) -> str:
        if self.after is not None and self.after > SCHEMA_REVISION:
            return f"The database is at {self.after}, newer than this falgate's {SCHEMA_REVISION}: nothing to do."
        if self.before == self.after:
            done = f"The database is at {self.after} already"
        else:
            done = f"The database went from {self.before or 'nothing'} to {self.after}"
        prices = "".join(f"\n  {endpoint}" for endpoint in self.priced)
        return f"{done}." + (f" First prices were set for{prices}" if prices else "")


@click.command
@click.option("--read-only-role", metavar="NAME", help="Make this role too, which reads the views for BI and no more.")
@embedded_option
def command(*, read_only_role: str | None, embedded: bool) -> None:
    """Bring the database to the newest schema; run it before each new version is served."""
    if read_only_role is not None:
        require_role_name(read_only_role)

    async def work(settings: Settings) -> None:
        async with open_database(settings) as db:
            click.echo(await migrate(db, settings=settings, catalogue=load_catalogue(), now=utc_now()))
            if read_only_role is not None:
                is_new = await make_read_only_role(db, read_only_role)
                click.echo(f"The role {read_only_role} {'was made and ' if is_new else ''}may read the views.")

    with settings_with_database(embedded=embedded) as given:
        asyncio.run(work(given.settings))


async def migrate(db: Database, *, settings: Settings, catalogue: Catalogue, now: datetime) -> Migrated:
    """Bring the database to the newest schema in one transaction; a newer one is left as it is.

    Raises SettingsError, and has changed nothing, when the database belongs to another kind of fal or another
    TIMEZONE.
    """
    if await db.schema_revision() is not None:
        await _require_ours(db, settings)
    before, after = await _upgrade(db)
    async with db.begin() as tx:
        await tx.execute(
            text("INSERT INTO installation (is_sandbox, timezone) VALUES (:sandbox, :zone) ON CONFLICT DO NOTHING"),
            {"sandbox": settings.is_sandbox, "zone": settings.timezone},
        )
        await tx.execute(text("LOCK TABLE prices IN SHARE ROW EXCLUSIVE MODE"))
        priced = await seed_prices(tx, catalogue, now=now)
    await _require_ours(db, settings)
    async with db.plain() as plain:
        is_missing = await is_spend_missing(plain)
    if is_missing:
        await rebuild_spend(db, zone=settings.zone)
    return Migrated(before, after, priced)


async def _require_ours(db: Database, settings: Settings) -> None:
    if contradiction := await find_contradiction(db, settings=settings):
        raise SettingsError(contradiction)


async def _upgrade(db: Database) -> tuple[str | None, str | None]:
    """To the newest revision; returns the revisions before and after."""
    revisions: list[str | None] = []

    def upgrade(config: Config) -> None:
        connection: Connection = config.attributes["connection"]
        revisions.append(_revision(connection))
        if (revisions[0] or "") < SCHEMA_REVISION:
            alembic.upgrade(config, "head")
        revisions.append(_revision(connection))

    await move(db, upgrade)
    return revisions[0], revisions[1]


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def move(db: Database, do: Callable[[Config], None]) -> None:
    """Run an alembic command in one transaction, alone: another that migrates is waited for."""

    def with_connection(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
        config.attributes["connection"] = connection
        do(config)

    async with db.begin() as tx:
        await tx.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
        await tx.execute(text("SET LOCAL statement_timeout = 0"))
        await tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": Lock.MIGRATE})
        await tx.run_sync(with_connection)

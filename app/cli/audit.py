"""`falgate audit`: proves that everything kept beside the ledger agrees with it."""

import asyncio

import click

from app.cli.database import embedded_option, open_database, settings_with_database
from app.cli.installation import require_installation
from app.ledger.audit import Difference, audit
from app.settings import Settings


@click.command
@embedded_option
@click.pass_context
def command(context: click.Context, *, embedded: bool) -> None:
    """Prove that quotas, spend and jobs agree with the ledger; list every difference and exit 1 if not."""
    with settings_with_database(embedded=embedded) as given:
        differences = asyncio.run(_work(given.settings))
    for difference in differences:
        click.echo(difference)
    if differences:
        context.exit(1)
    click.echo("the ledger agrees")


async def _work(settings: Settings) -> list[Difference]:
    async with open_database(settings) as db:
        await require_installation(db, settings=settings)
        return await audit(db, zone=settings.zone)

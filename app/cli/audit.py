"""`falgate audit`: proves that everything kept beside the ledger agrees with it."""

import asyncio

import click

from app.cli.database import embedded_option, settings_with_database
from app.cli.installation import open_installation
from app.ledger.audit import Difference, audit
from app.ledger.spend import rebuild_spend
from app.settings import Settings


@click.command
@embedded_option
@click.option("--rebuild", is_flag=True, help="First write the sums by day and month anew from the entries.")
@click.pass_context
def command(context: click.Context, *, embedded: bool, rebuild: bool) -> None:
    """Prove that quotas, spend and jobs agree with the ledger; list every difference and exit 1 if not."""
    with settings_with_database(embedded=embedded) as given:
        differences = asyncio.run(_work(given.settings, rebuild=rebuild))
    for difference in differences:
        click.echo(difference)
    if differences:
        context.exit(1)
    click.echo("the ledger agrees")


async def _work(settings: Settings, *, rebuild: bool) -> list[Difference]:
    async with open_installation(settings) as db:
        if rebuild:
            await rebuild_spend(db, zone=settings.zone)
        return await audit(db, zone=settings.zone)

"""`falgate prices`: the prices in force, whether fal's own are the same, and what another would have cost."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import click
from pydantic import ValidationError

from app.catalogue.registry import load_catalogue
from app.cli.boxed_fal import running_sandbox, urls_of
from app.cli.database import Decided, Given, embedded_option, settings_with_database
from app.cli.installation import open_installation
from app.cli.refusals import Refusal
from app.cli.terminal import printable
from app.fal import Platform
from app.http import parse_json
from app.ledger.prices.book import find_prices
from app.ledger.prices.check import PricesAway, check_prices
from app.ledger.prices.shapes import PriceCompared, Simulation, SimulationBody
from app.ledger.prices.simulation import simulate_price
from app.money import decimal_text
from app.problems import InvalidInput, NotJson, input_faults
from app.settings import Settings, from_environment
from app.wiring import utc_now


@click.group
def command() -> None:
    """Prices: those in force, against fal's own, and before they start."""


@command.command("list")
@embedded_option
def show(*, embedded: bool) -> None:
    """Show the prices in force."""
    with settings_with_database(embedded=embedded) as given:
        prices = asyncio.run(_list(given.settings))
    for price in prices:
        click.echo(price)


@command.command("check")
@embedded_option
@click.pass_context
def check(context: click.Context, *, embedded: bool) -> None:
    """Compare the prices in force with fal's price list; exit 1 if one differs. Changes nothing."""
    with settings_with_database(embedded=embedded) as given, _with_fal(given) as settings:
        compared = asyncio.run(_check(settings))
    for one in compared:
        click.echo(f"{one.verdict.replace('_', ' ')}: {one.endpoint}: {printable(one.detail)}")
        if one.proposal is not None:
            click.echo(f"  for fal's figure: POST /v1/prices {one.proposal.model_dump_json()}")
    if any(one.verdict == "differs" for one in compared):
        context.exit(1)


@command.command("simulate")
@click.argument("price")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="Jobs that ended since.")
@embedded_option
def simulate(*, price: str, days: int, embedded: bool) -> None:
    """What the last days' jobs would have cost at PRICE, a JSON body as for POST /v1/prices. Writes nothing."""
    with settings_with_database(embedded=embedded) as given:
        found = asyncio.run(_simulate(given.settings, price, days))
    for who, part in (*((printable(team.team), team) for team in found.by_team), ("all", found)):
        was, would = decimal_text(part.quoted_usd), decimal_text(part.simulated_usd)
        change = decimal_text(part.difference_usd)
        click.echo(f"{who}: {part.jobs} jobs were charged {was} USD, would have been {would} ({change})")
    if found.unknown_jobs:
        click.echo(f"{found.unknown_jobs} more cannot be told: what they asked for has been erased")
    if found.unpriced_jobs:
        click.echo(f"{found.unpriced_jobs} more would have been refused: two prices would be for them")


@contextmanager
def _with_fal(given: Given) -> Iterator[Settings]:
    """The fal that is configured or, for FAL_KEY=sandbox, one of our own for this command."""
    if not given.settings.is_sandbox:
        yield given.settings
        return
    with running_sandbox() as url:
        decided: Decided = {**given.decided, **urls_of(url)}
        yield from_environment(**decided)


async def _list(settings: Settings) -> list[str]:
    async with open_installation(settings) as db, db.reading() as tx:
        found = await find_prices(tx, at=utc_now())
    return [
        f"{price.endpoint} {json.dumps(dict(price.when))}: {price.in_words()}, since {price.starts_at:%Y-%m-%d %H:%M}Z"
        for price in sorted(found, key=lambda price: price.endpoint)
    ]


async def _check(settings: Settings) -> list[PriceCompared]:
    platform = Platform(fal_key=settings.fal_key, admin_key=None, api_url=settings.fal_api_url)
    try:
        async with open_installation(settings) as db:
            return await check_prices(db, platform, load_catalogue(), now=utc_now())
    except PricesAway as problem:
        raise Refusal(problem.detail) from None
    finally:
        await platform.aclose()


async def _simulate(settings: Settings, price: str, days: int) -> Simulation:
    try:
        given = parse_json(price.encode(errors="surrogateescape"))
        body = SimulationBody.model_validate(given | {"days": days} if isinstance(given, dict) else given)
        async with open_installation(settings) as db:
            return await simulate_price(db, body, catalogue=load_catalogue(), now=utc_now())
    except ValidationError as error:
        raise _no_price(input_faults(error.errors(include_url=False, include_input=False))) from None
    except InvalidInput as problem:
        raise _no_price(problem.faults) from None
    except NotJson as problem:
        raise Refusal(problem.detail) from None


def _no_price(faults: Sequence[Mapping[str, str]]) -> Refusal:
    return Refusal("; ".join(f"PRICE{fault['pointer']}: {fault['detail']}" for fault in faults) + ".")

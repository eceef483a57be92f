"""Keeping prices: rows are added ahead of time, never edited, and deleted only before they start."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.accounts.listing import newest
from app.catalogue.prices import prices
from app.catalogue.registry import Catalogue
from app.db import Tx, rows_as_dicts
from app.http import Page
from app.ids import new_id, parse, show
from app.ledger.shapes import Model, PriceBody, PriceNow, PriceQuery, PriceShown
from app.problems import InvalidInput, NameTaken, NotFound, Problem, pointer


class PriceStarted(Problem):
    """A price that has started stays in the book: jobs were quoted at it, or might have been.

    Add a price that starts now or later instead; the newer one wins.
    """

    status = 409


async def create_price(tx: Tx, body: PriceBody, *, catalogue: Catalogue, actor: Actor, now: datetime) -> PriceShown:
    """Add a row. Raises PriceStarted for a start in the past, InvalidInput for what we do not serve."""
    endpoint = catalogue.by_id(body.endpoint)
    if endpoint is None:
        raise InvalidInput([{"pointer": "/endpoint", "detail": "not in the catalogue; GET /v1/models lists it"}])
    if strangers := sorted(body.when.keys() - endpoint.input.model_fields.keys()):
        detail = "this is no field of the endpoint's input, so the price would never match"
        raise InvalidInput([{"pointer": pointer(["when", name]), "detail": detail} for name in strangers])
    if body.starts_at is not None and body.starts_at < now:
        raise PriceStarted("A price cannot start in the past: leave starts_at out to start it now.")
    values = {
        **body.model_dump(exclude={"starts_at"}),
        "id": new_id(now),
        "starts_at": body.starts_at or now,
        "created_at": now,
    }
    try:
        await tx.execute(insert(prices).values(**values))
    except IntegrityError as error:
        raise NameTaken("A price for the same endpoint, input and start is there already.") from error
    shown = PriceShown(**values)
    await _log(tx, actor, "price.created", shown, is_new=True, now=now)
    return shown


async def delete_price(tx: Tx, price_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Take back a price that has not started. Raises NotFound or PriceStarted."""
    found = await tx.execute(select(prices).where(prices.c.id == price_id).with_for_update())
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound("There is no price of this id.")
    if row["starts_at"] <= now:
        raise PriceStarted("This price has started and stays; add a newer one to replace it.")
    await tx.execute(delete(prices).where(prices.c.id == price_id))
    await _log(tx, actor, "price.deleted", PriceShown(**row), is_new=False, now=now)


async def list_prices(tx: Tx, query: PriceQuery) -> Page[PriceShown]:
    """Past, present and future prices, newest row first."""
    if query.cursor is not None and parse("price", query.cursor) is None:
        raise InvalidInput([{"parameter": "cursor", "detail": "must be a next_cursor of this list"}])
    statement = select(prices)
    if query.endpoint is not None:
        statement = statement.where(prices.c.endpoint == query.endpoint)
    rows, next_cursor = await newest(tx, statement, prices.c.id, query, prefix="price")
    return Page(data=[PriceShown(**row) for row in rows], next_cursor=next_cursor)


async def list_models(tx: Tx, catalogue: Catalogue, *, now: datetime) -> list[Model]:
    """The catalogue with the prices in force."""
    rows = rows_as_dicts(await tx.execute(select(prices).where(prices.c.starts_at <= now).order_by(prices.c.starts_at)))
    return [
        Model(
            model=endpoint.model,
            category=endpoint.category,
            endpoint=endpoint.id,
            input_schema=endpoint.input.model_json_schema(),
            example={"model": endpoint.model, **endpoint.example},
            prices=_in_force(row for row in rows if row["endpoint"] == endpoint.id),
        )
        for endpoint in catalogue.endpoints
    ]


def _in_force(rows: Any) -> list[PriceNow]:
    """The newest of each `when`; rows come oldest first."""
    newest_by_when = {repr(sorted(row["when"].items())): row for row in rows}
    return [
        PriceNow(
            price_id=row["id"],
            **{name: row[name] for name in ("when", "base_seconds", "base_usd", "usd_per_second")},
        )
        for row in newest_by_when.values()
    ]


async def _log(tx: Tx, actor: Actor, action: str, shown: PriceShown, *, is_new: bool, now: datetime) -> None:
    dumped = shown.model_dump(mode="json")
    await audit_log.write(
        tx,
        actor=actor,
        action=action,
        object_id=show("price", shown.id),
        before=None if is_new else dumped,
        after=dumped if is_new else None,
        now=now,
    )

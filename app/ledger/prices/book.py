"""Keeping prices: rows are added ahead of time, never edited, and deleted only before they start."""

from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, case, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.accounts.listing import newest
from app.catalogue.endpoint import Endpoint
from app.catalogue.prices import Price, prices
from app.catalogue.registry import Catalogue
from app.db import Tx
from app.http import Page
from app.ids import new_id, parse, show
from app.ledger.prices.shapes import Model, PriceBody, PriceNow, PriceQuery, PriceRow, PriceShown
from app.problems import InvalidInput, NameTaken, NotFound, Problem, pointer


class PriceStarted(Problem):
    """A price that has started stays in the book: jobs were quoted at it, or might have been.

    Add a price that starts now or later instead; the newer one wins.
    """

    status = 409


async def create_price(tx: Tx, body: PriceBody, *, catalogue: Catalogue, actor: Actor, now: datetime) -> PriceShown:
    """Add a row. Raises PriceStarted for a start in the past, InvalidInput for what we do not serve."""
    require_priceable(body, catalogue)
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
    await _log(tx, actor, "price.created", PriceRow(**values), is_new=True, now=now)
    found = await tx.execute(_shown(now, endpoint=body.endpoint, price_id=values["id"]))
    return PriceShown(**found.mappings().one())


def require_priceable(body: PriceBody, catalogue: Catalogue) -> Endpoint:
    """The endpoint that a price is for. Raises InvalidInput when we do not serve it, or no input could ever match."""
    endpoint = catalogue.by_id(body.endpoint)
    if endpoint is None:
        raise InvalidInput([{"pointer": "/endpoint", "detail": "not in the catalogue; GET /v1/models lists it"}])
    reasons = {name: endpoint.why_never(name, value) for name, value in sorted(body.when.items())}
    if any(reasons.values()):
        raise InvalidInput(
            [
                {"pointer": pointer(["when", name]), "detail": f"{reason}, so the price would never match"}
                for name, reason in reasons.items()
                if reason is not None
            ]
        )
    return endpoint


async def delete_price(tx: Tx, price_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Take back a price that has not started. Raises NotFound or PriceStarted."""
    found = await tx.execute(select(prices).where(prices.c.id == price_id).with_for_update())
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound("There is no price of this id.")
    if row["starts_at"] <= now:
        raise PriceStarted("This price has started and stays; add a newer one to replace it.")
    await tx.execute(delete(prices).where(prices.c.id == price_id))
    await _log(tx, actor, "price.deleted", PriceRow(**row), is_new=False, now=now)


async def list_prices(tx: Tx, query: PriceQuery, *, now: datetime) -> Page[PriceShown]:
    """Past, present and future prices, newest row first."""
    if query.cursor is not None and parse("price", query.cursor) is None:
        raise InvalidInput([{"parameter": "cursor", "detail": "must be a next_cursor of this list"}])
    statement = _shown(now, endpoint=query.endpoint)
    columns = statement.selected_columns
    if query.state is not None:
        statement = statement.where(columns.state == query.state)
    rows, next_cursor = await newest(tx, statement, columns.id, query, prefix="price")
    return Page(data=[PriceShown(**row) for row in rows], next_cursor=next_cursor)


def _shown(now: datetime, *, endpoint: str | None = None, price_id: UUID | None = None) -> Select[Any]:
    """Every price with `ends_at` and `state`; what follows a row is looked for among all of its endpoint."""
    follows = func.lead(prices.c.starts_at).over(
        partition_by=(prices.c.endpoint, prices.c.when), order_by=prices.c.starts_at
    )
    inner = select(prices, follows.label("ends_at"))
    if endpoint is not None:
        inner = inner.where(prices.c.endpoint == endpoint)
    row = inner.subquery()
    state = case((row.c.starts_at > now, "future"), (row.c.ends_at <= now, "past"), else_="current")
    shown = select(row, state.label("state")).subquery()
    statement = select(shown)
    return statement if price_id is None else statement.where(shown.c.id == price_id)


async def find_prices(tx: Tx, *, at: datetime, endpoint: str | None = None) -> list[Price]:
    """The prices in force at a moment: the newest of each endpoint and `when`, by when they started."""
    statement = _shown(at, endpoint=endpoint)
    columns = statement.selected_columns
    found = await tx.execute(statement.where(columns.state == "current").order_by(columns.starts_at, columns.id))
    names = [field.name for field in fields(Price)]
    return [Price(**{name: row[name] for name in names}) for row in found.mappings()]


async def list_models(tx: Tx, catalogue: Catalogue, *, now: datetime) -> list[Model]:
    """The catalogue with the prices in force."""
    found = await find_prices(tx, at=now)
    return [
        Model(
            model=endpoint.model,
            category=endpoint.category,
            endpoint=endpoint.id,
            input_schema=endpoint.input.model_json_schema(),
            example={"model": endpoint.model, **endpoint.example},
            prices=[price_now(price) for price in found if price.endpoint == endpoint.id],
        )
        for endpoint in catalogue.endpoints
    ]


def price_now(price: Price) -> PriceNow:
    """A price as it is shown with what it is for."""
    return PriceNow(
        price_id=price.id,
        when=dict(price.when),
        base_seconds=price.base_seconds,
        base_usd=price.base_usd,
        usd_per_second=price.usd_per_second,
    )


async def _log(tx: Tx, actor: Actor, action: str, shown: PriceRow, *, is_new: bool, now: datetime) -> None:
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

"""`/v1/models`, `/v1/prices`: what is sold at which price; and what finance asks before a price is added."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Response

from app.accounts.access import Admin, AnyActor, require_role
from app.accounts.callers import Actor
from app.accounts.reach import found_id
from app.http import JsonRoute, Listing, Page
from app.ledger.prices import book
from app.ledger.prices.check import check_prices
from app.ledger.prices.shapes import (
    Model,
    PriceBody,
    PriceCompared,
    PriceQuery,
    PriceShown,
    Simulation,
    SimulationBody,
)
from app.ledger.prices.simulation import simulate_price
from app.problems import InvalidInput, responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute)

Accountant = Annotated[Actor, Depends(require_role("finance", "admin"))]


@router.get("/v1/models", tags=["models"], operation_id="list_models", responses=responses(401, 403, 422, 503))
async def list_models(_: AnyActor, wired: Wired, listing: Listing) -> Page[Model]:
    """The catalogue: each endpoint's input and what it costs now."""
    async with wired.db.reading() as tx:
        models = await book.list_models(tx, wired.catalogue, now=wired.clock())
    names = [model.endpoint for model in models]
    if listing.cursor is not None and listing.cursor not in names:
        raise InvalidInput([{"parameter": "cursor", "detail": "must be a next_cursor of this list"}])
    start = names.index(listing.cursor) + 1 if listing.cursor is not None else 0
    end = start + listing.limit
    return Page(data=models[start:end], next_cursor=names[end - 1] if end < len(names) else None)


@router.post(
    "/v1/prices",
    tags=["prices"],
    status_code=201,
    operation_id="create_price",
    responses=responses(401, 403, 409, 413, 415, 422, 503),
)
async def create_price(body: PriceBody, actor: Admin, wired: Wired) -> PriceShown:
    """Add a price that starts now or later."""
    async with wired.db.begin() as tx:
        return await book.create_price(tx, body, catalogue=wired.catalogue, actor=actor, now=wired.clock())


@router.get("/v1/prices", tags=["prices"], operation_id="list_prices", responses=responses(401, 403, 422, 503))
async def list_prices(
    query: Annotated[PriceQuery, Query()],
    _: Accountant,
    wired: Wired,
) -> Page[PriceShown]:
    """List prices, past and future, newest first."""
    async with wired.db.reading() as tx:
        return await book.list_prices(tx, query, now=wired.clock())


@router.delete(
    "/v1/prices/{id}",
    tags=["prices"],
    status_code=204,
    operation_id="delete_price",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def delete_price(price_id: Annotated[str, Path(alias="id")], actor: Admin, wired: Wired) -> Response:
    """Take back a price before it starts."""
    found = found_id("price", price_id)
    async with wired.db.begin() as tx:
        await book.delete_price(tx, found, actor=actor, now=wired.clock())
    return Response(status_code=204)


@router.get(
    "/v1/prices/check",
    tags=["prices"],
    operation_id="check_prices",
    summary="Our prices and fal's",
    responses=responses(401, 403, 422, 503),
)
async def get_price_check(_: Accountant, wired: Wired) -> Page[PriceCompared]:
    """Compare each endpoint's prices in force with fal's own price list. Changes nothing.

    fal names one figure an endpoint, which may hold a discount of your account and knows nothing of the input: where it
    is dollars a second it can be compared, and `proposal` is the price that would charge the same.
    """
    compared = await check_prices(wired.db, wired.platform, wired.catalogue, now=wired.clock())
    return Page(data=compared, next_cursor=None)


@router.post(
    "/v1/prices/simulate",
    tags=["prices"],
    operation_id="simulate_price",
    summary="What a price would have cost",
    responses=responses(401, 403, 413, 415, 422, 503),
)
async def simulate(body: SimulationBody, _: Accountant, wired: Wired) -> Simulation:
    """What the last days' jobs would have cost under a price that is not in the book. Writes nothing.

    Counted are jobs that succeeded and were charged, at their quotes, by when they ended, and whose input the price
    would be for when it starts.
    """
    return await simulate_price(wired.db, body, catalogue=wired.catalogue, now=wired.clock())

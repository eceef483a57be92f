"""`/v1/prices/check` and `/v1/prices/simulate`: what finance asks before a price is added."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends

from app.accounts.access import require_role
from app.accounts.callers import Actor
from app.http import JsonRoute, Page
from app.ledger.price_check import check_prices
from app.ledger.price_shapes import PriceCompared, Simulation, SimulationBody
from app.ledger.price_simulation import simulate_price
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute)

Accountant = Annotated[Actor, Depends(require_role("finance", "admin"))]


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

"""What our prices charge against what fal's price list says: an alarm for drift, which changes nothing by itself.

fal gives one figure an endpoint, which may hold a discount of the account and knows nothing of the input (FAL.md 6,
7.3). It can be compared where it is dollars a second: a row of ours says the same when its base block and each further
second cost just that.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from pydantic import ValidationError

from app.catalogue.endpoint import Endpoint
from app.catalogue.prices import Price
from app.catalogue.registry import Catalogue
from app.db import Database
from app.fal import Platform, Trouble, UnitPrice
from app.ledger.prices.book import find_prices, price_now
from app.ledger.prices.shapes import FalPrice, PriceBody, PriceCompared, PriceProposed, Verdict
from app.money import ZERO
from app.problems import Problem

_SECONDS: Final = {"second", "seconds"}
_REFUSALS: Final = {401, 402, 403}
_DISCOUNT: Final = "fal's figure may hold a discount of your account, and knows nothing of the input"
_LATER_SECONDS: Final = 30
_LATEST_SECONDS: Final = 3600


class PricesAway(Problem):
    """fal's price list, which our prices are compared with, cannot be read just now.

    `detail` says why. When fal refuses the gateway's own key, whoever runs the gateway must look at `FAL_KEY`; else ask
    again after the seconds named in `Retry-After`. Prices and jobs are as they were.
    """

    status = 503


async def check_prices(db: Database, platform: Platform, catalogue: Catalogue, *, now: datetime) -> list[PriceCompared]:
    """Each endpoint of the catalogue against fal's price list, and no change. Raises PricesAway."""
    async with db.reading() as tx:
        ours = await find_prices(tx, at=now)
    told = await platform.prices([endpoint.id for endpoint in catalogue.endpoints])
    if isinstance(told, Trouble):
        raise _away(told)
    return [
        compare(
            endpoint,
            [price for price in ours if price.endpoint == endpoint.id],
            told.by_endpoint.get(endpoint.id),
        )
        for endpoint in catalogue.endpoints
    ]


def compare(endpoint: Endpoint, ours: Sequence[Price], told: UnitPrice | None) -> PriceCompared:
    """Our prices in force for an endpoint against the one that fal names."""
    verdict, detail = _verdict(ours, told)
    return PriceCompared(
        endpoint=endpoint.id,
        model=endpoint.model,
        ours=[price_now(price) for price in ours],
        fal=None
        if told is None
        else FalPrice(unit_price=f"{told.unit_price:f}", unit=told.unit, currency=told.currency),
        verdict=verdict,
        detail=detail,
        proposal=_proposal(endpoint, ours, told.unit_price) if verdict == "differs" and told is not None else None,
    )


def _verdict(ours: Sequence[Price], told: UnitPrice | None) -> tuple[Verdict, str]:
    if told is None:
        return "not_listed", "fal's price list does not name this endpoint."
    if told.unit.lower() not in _SECONDS or told.currency.upper() != "USD":
        said = f"fal's price is {told.unit_price:f} {told.currency} for a unit called {told.unit!r}"
        return "not_comparable", f"{said}: only dollars a second can be compared with ours."
    if told.unit_price == ZERO:
        return "not_comparable", "fal's price is 0, which stands for none."
    usd = f"{told.unit_price:f}"
    if any(_is_the_same(price, told.unit_price) for price in ours):
        others = "" if len(ours) == 1 else f" with one of {len(ours)} prices; fal's list has one figure for all inputs"
        return "agrees", f"fal's {usd} a second agrees{others}."
    if not ours:
        return "differs", f"fal asks {usd} a second; no price of ours is in force, so every job is refused."
    charged = " or ".join(dict.fromkeys(price.in_words() for price in ours))
    several = "" if len(ours) == 1 else f"; nobody can say which of the {len(ours)} it is for, so none is proposed"
    return "differs", f"fal asks {usd} a second, where ours are {charged}; {_DISCOUNT}{several}."


def _is_the_same(price: Price, usd_per_second: Decimal) -> bool:
    return price.usd_per_second == usd_per_second and price.base_usd == price.base_seconds * usd_per_second


def _proposal(endpoint: Endpoint, ours: Sequence[Price], usd_per_second: Decimal) -> PriceProposed | None:
    """The one row of ours at fal's figure, its base block kept; of several nobody can say which fal's figure is for."""
    if len(ours) > 1:
        return None
    base_seconds = ours[0].base_seconds if ours else ZERO
    row = {
        "endpoint": endpoint.id,
        "when": dict(ours[0].when) if ours else {},
        "base_seconds": f"{base_seconds:f}",
        "base_usd": f"{base_seconds * usd_per_second:f}",
        "usd_per_second": f"{usd_per_second:f}",
    }
    try:
        body = PriceBody.model_validate(row)
    except ValidationError:  # finer than a nano-dollar, or beyond what a price may be
        return None
    return PriceProposed(**body.model_dump(exclude={"starts_at"}))


def _away(trouble: Trouble) -> PricesAway:
    if trouble.code in _REFUSALS:
        detail = f"fal refuses the gateway's own FAL_KEY ({trouble.code}), so its price list cannot be read."
    else:
        detail = f"fal's price list cannot be read ({trouble.reason}): ask again in a moment."
    seconds = min(trouble.retry_after_seconds or _LATER_SECONDS, _LATEST_SECONDS)
    return PricesAway(detail, headers={"Retry-After": str(max(1, seconds))})

"""fal's price list: one figure an endpoint, an alarm for drift and no calculator.

`GET /models/pricing` (FAL.md 6, 7.3): it knows nothing of the input, its unit is free text, and discounts of the
account may be in it.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import httpx

from app.fal.messages import Reply, clean
from app.fal.outcomes import Trouble

Ask = Callable[[Mapping[str, str]], Awaitable[Reply | Trouble]]
"""One GET of the list with this query."""

_AT_ONCE: Final = 50
_MOST_PAGES: Final = 100
_LONGEST_CURSOR: Final = 4000
_LONGEST_TEXT: Final = 100
_MOST: Final = Decimal(1_000_000)
_MOST_PLACES: Final = 18


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What fal asks for one `unit` (its own word, such as `seconds`), in `currency`; not negative."""

    unit_price: Decimal
    unit: str
    currency: str


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """The prices of the endpoints that were asked for, by their ids; fal does not list those that are missing."""

    by_endpoint: Mapping[str, UnitPrice]


@dataclass(frozen=True, slots=True)
class _Page:
    prices: Mapping[str, UnitPrice]
    next_cursor: str | None


async def read_prices(ask: Ask, endpoints: Sequence[str]) -> UnitPrices | Trouble:
    """The list's word on each of these, or Trouble: whatever cannot be read tells the price of nothing.

    Should fal not know one of several and so answer for none (FAL.md does not say whether it does), they are asked for
    one by one. That it knows none at all is no word on prices: something else answers there.
    """
    found: dict[str, UnitPrice] = {}
    waiting = [list(endpoints[start : start + _AT_ONCE]) for start in range(0, len(endpoints), _AT_ONCE)]
    is_unknown = False
    while waiting:
        several = waiting.pop()
        told = await _walk(ask, several)
        if isinstance(told, Trouble):
            return told
        if told is None:
            is_unknown = True
            waiting += [[one] for one in several] if len(several) > 1 else []
        found |= told or {}
    if is_unknown and not found:
        return Trouble("fal says that it knows none of these endpoints", httpx.codes.NOT_FOUND)
    return UnitPrices(found)


async def _walk(ask: Ask, endpoints: Sequence[str]) -> dict[str, UnitPrice] | Trouble | None:
    """Every page about these; None when fal says `not_found`."""
    found: dict[str, UnitPrice] = {}
    cursor: str | None = None
    cursors: set[str] = set()
    for _ in range(_MOST_PAGES):
        query = {"endpoint_id": ",".join(endpoints)} | ({"cursor": cursor} if cursor else {})
        reply = await ask(query)
        page = reply if isinstance(reply, Trouble) else _read_page(reply, endpoints)
        if not isinstance(page, _Page):
            return page
        if [one for one in page.prices if found.get(one, page.prices[one]) != page.prices[one]]:
            return Trouble("fal's price list names two prices for one endpoint", reply.code)
        found |= page.prices
        cursor = page.next_cursor
        if cursor is None:
            return found
        if cursor in cursors:
            return Trouble("fal's price list goes round in circles")
        cursors.add(cursor)
    return Trouble(f"fal's price list has more than {_MOST_PAGES} pages")


def _says_not_found(reply: Reply) -> bool:
    error = (reply.json or {}).get("error") if reply.code == httpx.codes.NOT_FOUND else None
    return isinstance(error, dict) and error.get("type") == "not_found"


def _read_page(reply: Reply, endpoints: Sequence[str]) -> _Page | Trouble | None:
    if _says_not_found(reply):
        return None
    if reply.code != httpx.codes.OK:
        return Trouble(f"fal answered {reply.code}", reply.code, reply.retry_after_seconds)
    answer = {} if reply.json is None else json.loads(reply.body, parse_float=Decimal, parse_int=Decimal)
    rows = answer.get("prices")
    if not isinstance(rows, list):
        return Trouble("fal's price list is no list", reply.code)
    read = [row for row in map(_read_row, rows) if row is not None]
    found = dict(read)
    if len(read) < len(rows):
        return Trouble("fal's price list has an entry that cannot be read", reply.code)
    if any(found[one] != price for one, price in read):
        return Trouble("fal's price list names two prices for one endpoint", reply.code)
    return _next(answer, {one: price for one, price in found.items() if one in endpoints}, reply.code)


def _read_row(row: object) -> tuple[str, UnitPrice] | None:
    if not isinstance(row, dict):
        return None
    endpoint, price, unit, currency = (row.get(name) for name in ("endpoint_id", "unit_price", "unit", "currency"))
    if not isinstance(endpoint, str) or not isinstance(unit, str) or not isinstance(currency, str):
        return None
    if not isinstance(price, Decimal) or not 0 <= price <= _MOST:
        return None
    exponent = price.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _MOST_PLACES:
        return None
    return endpoint, UnitPrice(price, clean(unit, _LONGEST_TEXT), clean(currency, _LONGEST_TEXT))


def _next(answer: Mapping[str, object], prices: Mapping[str, UnitPrice], code: int) -> _Page | Trouble:
    has_more, cursor = answer.get("has_more"), answer.get("next_cursor")
    if has_more is False or (has_more is None and cursor is None):
        return _Page(prices, None)
    goes_on = has_more is True or has_more is None
    if not goes_on or not isinstance(cursor, str) or not 0 < len(cursor) <= _LONGEST_CURSOR:
        return Trouble("fal's price list does not say how it goes on", code)
    return _Page(prices, cursor)

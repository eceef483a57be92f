"""fal's price list: one figure an endpoint (FAL.md 6), that of its input with its defaults, until told otherwise."""

import base64
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.sandbox.account import read_usd
from app.sandbox.prices import unit_price
from app.sandbox.validation import RULES

QUERY = frozenset({"endpoint_id", "limit", "cursor"})
MOST_ENDPOINTS = 50
MOST_PRICED = 100
USUALLY_PRICED = 4  # few, so that whoever asks for all of its catalogue has to page
MEMBERS = frozenset({"endpoint_id", "unit_price", "unit", "currency"})


@dataclass(frozen=True, slots=True)
class Listed:
    """What the list says of one endpoint. `unit` is free text."""

    unit_price: Decimal
    unit: str = "seconds"
    currency: str = "USD"


class PriceList:
    """The prices of this fal; an endpoint that is not on it is served all the same."""

    def __init__(self) -> None:
        self._listed: dict[str, Listed] = {}
        self.reset()

    def reset(self) -> None:
        """List what is billed for the models that are known here."""
        self._listed = {endpoint: Listed(unit_price(endpoint, {})) for endpoint in RULES}

    def change(self, given: dict[str, Any]) -> None:
        """List an endpoint at another price, or not at all (`"unit_price": null`); ValueError says what is wrong."""
        if unknown := given.keys() - MEMBERS:
            raise ValueError(f"unknown members: {sorted(unknown)}")
        endpoint = str(given["endpoint_id"])
        if given["unit_price"] is None:
            self._listed.pop(endpoint, None)
            return
        names = {name: str(given[name]) for name in ("unit", "currency") if name in given}
        self._listed[endpoint] = Listed(read_usd(given["unit_price"]), **names)

    def page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """Answer the question; ValueError says what is wrong with it."""
        if unknown := query.keys() - QUERY:
            raise ValueError(f"the sandbox does not know {', '.join(sorted(unknown))}")
        endpoints = [one for value in query.get("endpoint_id", []) for one in value.split(",") if one]
        if not 1 <= len(endpoints) <= MOST_ENDPOINTS:
            raise ValueError(f"endpoint_id is required, at most {MOST_ENDPOINTS} of them")
        limit, after = _read_limit(query), _read_cursor(query)
        known = sorted(one for one in set(endpoints) if one in self._listed and one > after)
        has_more = len(known) > limit
        return {
            "prices": [self._describe(one) for one in known[:limit]],
            "next_cursor": base64.urlsafe_b64encode(known[limit - 1].encode()).decode() if has_more else None,
            "has_more": has_more,
        }

    def describe(self) -> list[dict[str, Any]]:
        """Return all that is listed."""
        return [self._describe(one) for one in sorted(self._listed)]

    def _describe(self, endpoint: str) -> dict[str, Any]:
        listed = self._listed[endpoint]
        # A JSON number, as fal's schema has it: never reckoned with.
        price = float(listed.unit_price)
        return {"endpoint_id": endpoint, "unit_price": price, "unit": listed.unit, "currency": listed.currency}


def _read_limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(USUALLY_PRICED)])[-1]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_PRICED):
        raise ValueError(f"limit is 1 to {MOST_PRICED}")
    return int(text)


def _read_cursor(query: dict[str, list[str]]) -> str:
    try:
        return base64.urlsafe_b64decode(query.get("cursor", [""])[-1]).decode()
    except ValueError:
        raise ValueError("cursor is none of ours") from None

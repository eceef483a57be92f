"""fal's bill, event by event, read with tolerance for what is new and none for doubt.

`GET /models/billing-events` (FAL.md 6), under an ADMIN key: `start` (inclusive) and `end` (exclusive) at most 90 days
apart, `limit` up to 10,000, `cursor`. A request may have several events, also negative ones, and an event comes late.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import httpx

from app.fal.messages import Reply, clean
from app.fal.outcomes import Trouble

LONGEST_PERIOD: Final = timedelta(days=90)
"""What fal tells in one call at most."""
PAGE_EVENTS: Final = 10_000

_NANO: Final = Decimal("1e-9")
_MOST: Final = Decimal(10) ** 11  # NUMERIC(20,9)
_LONGEST_CURSOR: Final = 4000
_LONGEST_NAME: Final = 300
_NAME: Final = re.compile(rf"[^\x00-\x20\x7f\ud800-\udfff]{{1,{_LONGEST_NAME}}}")  # PostgreSQL knows no surrogates
_WRITTEN: Final = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)  # Decimal takes 1_4 for 14


@dataclass(frozen=True, slots=True)
class BillingEvent:
    """What fal billed of one of its requests at one moment; `usd` is what is paid, after discounts.

    `units` and `unit_price_usd` are None where fal does not tell them, and so is `paid_with`, which names the key or
    the person.
    """

    fal_request_id: str
    endpoint: str
    billed_at: datetime
    units: Decimal | None
    unit_price_usd: Decimal | None
    usd: Decimal
    paid_with: str | None


@dataclass(frozen=True, slots=True)
class BillPage:
    """One page; `next_cursor` is None on the last."""

    events: tuple[BillingEvent, ...]
    next_cursor: str | None


class _UnreadableError(Exception):
    """fal's bill says something that cannot be understood."""


def read_bill_page(reply: Reply) -> BillPage | Trouble:
    """One page of the bill; Trouble whenever it cannot be told what it says. Takes some time for 10,000 events."""
    if reply.code != httpx.codes.OK:
        return Trouble(f"fal answered {reply.code}", reply.code, reply.retry_after_seconds)
    try:
        answer = json.loads(reply.body, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
        return _page(answer)
    except (ValueError, ArithmeticError, RecursionError):
        return Trouble("fal's bill is no JSON", reply.code)
    except _UnreadableError as reason:
        return Trouble(str(reason), reply.code)


def _refuse(name: str) -> Decimal:
    raise ValueError(name)


def _page(answer: Any) -> BillPage:
    items = answer.get("billing_events") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise _UnreadableError("fal's bill is no list of events")
    events = tuple(map(_event, items))
    has_more, cursor = answer.get("has_more"), answer.get("next_cursor")
    if has_more is False or (has_more is None and cursor is None):
        return BillPage(events, None)
    is_cursor = isinstance(cursor, str) and 0 < len(cursor) <= _LONGEST_CURSOR
    if has_more not in (True, None) or not is_cursor:
        raise _UnreadableError("fal's bill does not say how it goes on")
    return BillPage(events, cursor)


def _event(item: Any) -> BillingEvent:
    if not isinstance(item, dict):
        raise _UnreadableError("fal's bill has an event that is no object")
    return BillingEvent(
        fal_request_id=_name(item, "request_id"),
        endpoint=_name(item, "endpoint_id"),
        billed_at=_moment(item.get("timestamp")),
        units=_figure(item, "output_units"),
        unit_price_usd=_figure(item, "unit_price"),
        usd=_paid(item),
        paid_with=_method(item.get("auth_method")),
    )


def _paid(item: dict[str, object]) -> Decimal:
    """`cost_total`, what is paid after discounts; in older answers `cost_estimate_nano_usd` is all that tells it."""
    usd = _figure(item, "cost_total")
    if usd is None:
        usd = _figure(item, "cost_estimate_nano_usd", _NANO)
    if usd is None:
        raise _UnreadableError("fal's bill has an event without a cost")
    return usd


def _figure(item: dict[str, object], name: str, unit: Decimal = Decimal(1)) -> Decimal | None:
    """To the nano-dollar, in which fal bills: a number of JSON's may carry a float's noise further down."""
    value = item.get(name)
    if value is None:
        return None
    if isinstance(value, str) and not _WRITTEN.fullmatch(value):
        value = "NaN"
    try:
        figure = (Decimal(value) * unit).quantize(_NANO) if isinstance(value, str | Decimal) else Decimal("NaN")
    except ArithmeticError:
        figure = Decimal("NaN")
    if not figure.is_finite() or abs(figure) >= _MOST:
        raise _UnreadableError(f"fal's bill has an event whose {name} is no figure")
    return figure + 0  # "-0" is 0


def _name(item: dict[str, object], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _UnreadableError(f"fal's bill has an event without {name}")
    return value


def _moment(text: object) -> datetime:
    """In UTC; only with its offset: a local time would be a guess."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _UnreadableError("fal's bill has an event without its moment")


def _method(value: object) -> str | None:
    return (clean(value, _LONGEST_NAME) or None) if isinstance(value, str) else None

"""fal's bill: an event for each request that cost something, as late and as wrong as was asked for (FAL.md 6)."""

import base64
import binascii
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from app.sandbox.account import read_usd
from app.sandbox.jobs import ENDED, Job

if TYPE_CHECKING:
    from app.sandbox.box import Box

LONGEST = timedelta(days=90)
USUALLY = timedelta(days=1)
MOST_BILLED = 10_000
USUALLY_BILLED = 50
MOST_NAMED = 50
QUERY = frozenset(
    {"start", "end", "limit", "cursor", "endpoint_id", "request_id", "api_key_id", "login_username", "expand"}
)
CHANGES = frozenset({"request_id", "cost_usd", "events"})
EXTRA = frozenset({"request_id", "endpoint_id", "cost_usd", "units", "timestamp", "auth_method"})
MEMBERS = frozenset({"lag_seconds", "change", "extra"})


class Event(NamedTuple):
    """One line of the bill; the newest come first."""

    billed_at: datetime
    request_id: str
    number: int
    endpoint: str
    units: Decimal | None
    unit_price: Decimal | None
    usd: Decimal
    auth_method: str


@dataclass(slots=True)
class Bill:
    """How fal's bill is late and disagrees; what is not said here it tells as it is."""

    lag_seconds: float = 0.0  # of the clock that runs at `speed`
    costs: dict[str, Decimal | None] = field(default_factory=dict)  # None: left out
    pieces: dict[str, int] = field(default_factory=dict)
    extra: list[Event] = field(default_factory=list)

    def change(self, given: dict[str, Any]) -> None:
        """Do as `POST /_sandbox/bill` says; ValueError says what is wrong with it."""
        _refuse_unknown(given, MEMBERS)
        lag = float(given.get("lag_seconds", self.lag_seconds))
        if not 0 <= lag < float("inf"):
            raise ValueError("lag_seconds is a number not below 0")
        self.lag_seconds = lag
        for change in given.get("change", []):
            self._change_one(change)
        self.extra += [_read_extra(extra, len(self.extra) + at) for at, extra in enumerate(given.get("extra", []))]

    def _change_one(self, given: dict[str, Any]) -> None:
        _refuse_unknown(given, CHANGES)
        request_id = str(given["request_id"])
        if "cost_usd" in given:
            self.costs[request_id] = None if given["cost_usd"] is None else read_usd(given["cost_usd"])
        pieces = given.get("events", 1)
        if not isinstance(pieces, int) or pieces < 1:
            raise ValueError("events is a positive integer")
        self.pieces[request_id] = pieces

    def events_of(self, job: Job, billed_at: datetime) -> list[Event]:
        """Return what an ended job is billed; nothing for what costs nothing."""
        units, price = job.billed_units(), job.unit_price_usd
        usd = self.costs.get(job.request_id, job.billed_usd())
        if usd is None or (not usd and job.request_id not in self.costs):
            return []
        pieces = self.pieces.get(job.request_id, 1)
        each = round(usd / pieces, 9)
        method = f"Key {job.key_fingerprint}"
        return [
            Event(billed_at, job.request_id, piece, job.endpoint, units / pieces, price, part, method)
            for piece in range(pieces)
            for part in [usd - each * (pieces - 1) if piece == 0 else each]
        ]


def events_told(box: "Box", moment: float) -> list[Event]:
    """Return every event that the bill tells by this moment, the newest first."""
    told = list(box.bill.extra)
    for job in box.jobs.values():
        if job.status_at(moment - box.bill.lag_seconds) == ENDED:
            told += box.bill.events_of(job, datetime.fromtimestamp(box.wall_time(job, job.ends_at()), UTC))
    return sorted(told, reverse=True)


def tell_bill(box: "Box", query: dict[str, list[str]]) -> dict[str, Any]:
    """Answer the question; ValueError says what is wrong with it. The cursor is the number of the next page."""
    _refuse_unknown(query, QUERY)
    until = _read_moment(query, "end") or datetime.now(UTC)
    since = _read_moment(query, "start") or until - USUALLY
    if not timedelta() <= until - since <= LONGEST:
        raise ValueError("start is before end, and at most 90 days before it")
    limit, page = _read_limit(query), _read_page(query)
    endpoints, requests = _names(query, "endpoint_id"), _names(query, "request_id")
    known = [
        event
        for event in events_told(box, box.read_clock())
        if since <= event.billed_at < until
        and (not endpoints or event.endpoint in endpoints)
        and (not requests or event.request_id in requests)
    ]
    has_more = len(known) > page * limit
    with_method = "auth_method" in _names(query, "expand")
    return {
        "billing_events": [describe(event, with_method) for event in known[(page - 1) * limit : page * limit]],
        "next_cursor": base64.b64encode(str(page + 1).encode()).decode() if has_more else None,
        "has_more": has_more,
    }


def describe(event: Event, with_method: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
    """Return an event as fal writes it, its figures JSON numbers."""
    return {
        "request_id": event.request_id,
        "endpoint_id": event.endpoint,
        "timestamp": event.billed_at.isoformat().replace("+00:00", "Z"),
        "output_units": None if event.units is None else float(event.units),
        "unit_price": None if event.unit_price is None else float(event.unit_price),
        "percent_discount": None,
        "cost_subtotal": float(event.usd),
        "cost_discount": 0,
        "cost_total": float(event.usd),
        "cost_estimate_nano_usd": int(event.usd.scaleb(9)),
        **({"auth_method": event.auth_method} if with_method else {}),
    }


def _read_extra(given: dict[str, Any], number: int) -> Event:
    _refuse_unknown(given, EXTRA)
    moment = given.get("timestamp")
    return Event(
        billed_at=datetime.fromisoformat(moment) if moment else datetime.now(UTC),
        request_id=str(given["request_id"]),
        number=number + MOST_BILLED,
        endpoint=str(given["endpoint_id"]),
        units=read_usd(given["units"]) if "units" in given else None,
        unit_price=None,
        usd=read_usd(given["cost_usd"]),
        auth_method=str(given.get("auth_method", "Key of somebody else")),
    )


def _refuse_unknown(given: Any, known: frozenset[str]) -> None:
    unknown = given.keys() - known
    if unknown:
        raise ValueError(f"the sandbox does not know {', '.join(sorted(unknown))}")


def _read_moment(query: dict[str, list[str]], name: str) -> datetime | None:
    if name not in query:
        return None
    moment = datetime.fromisoformat(query[name][-1])
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(USUALLY_BILLED)])[-1]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_BILLED):
        raise ValueError(f"limit is 1 to {MOST_BILLED}")
    return int(text)


def _read_page(query: dict[str, list[str]]) -> int:
    if "cursor" not in query:
        return 1
    try:
        return int(base64.b64decode(query["cursor"][-1], validate=True))
    except (ValueError, binascii.Error):
        raise ValueError("cursor is none of ours") from None


def _names(query: dict[str, list[str]], name: str) -> list[str]:
    names = [part for value in query.get(name, []) for part in value.split(",") if part]
    if len(names) > MOST_NAMED:
        raise ValueError(f"{name} names at most {MOST_NAMED}")
    return names

"""From when until when a report is about, as callers say it: by dates in TIMEZONE, or by moments."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from app.accounts.fields import Moment
from app.ledger.windows import first_instant, window_at

Faults = list[dict[str, str]]
"""What is wrong with a request, as `InvalidInput` takes it."""

FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2999
MOST_YEARS: Final = 10

_MOST: Final = timedelta(days=MOST_YEARS * 365 + 3, hours=1)  # with leap days, and an hour of summer
_read_moment: Final = TypeAdapter[datetime](Moment).validate_python
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FORM: Final = "give a date (2026-10-01) or a moment with its zone (2026-10-01T00:00:00Z; in a URL, + is written %2B)"


@dataclass(frozen=True, slots=True)
class Period:
    """`[since, until)`, in UTC; `until` None: open."""

    since: datetime
    until: datetime | None


def read_period(since: str | None, until: str | None, *, now: datetime, zone: ZoneInfo, faults: Faults) -> Period:
    """What was asked for: without `since` from the first instant of this month, without `until` with no end.

    A date is the first instant of that day in `zone`. Adds to `faults` what is wrong; the period is then of no use.
    """
    found = len(faults)
    starts_at = window_at("month", now, zone).starts_at
    if since is not None:
        starts_at = _read("since", since, zone, faults) or starts_at
    ends_at = None if until is None else _read("until", until, zone, faults)
    if len(faults) == found:
        _compare(starts_at, ends_at, now, faults)
    return Period(starts_at, ends_at)


def _read(name: str, value: str, zone: ZoneInfo, faults: Faults) -> datetime | None:
    try:
        moment = first_instant(date.fromisoformat(value), zone) if _DATE.fullmatch(value) else _read_moment(value)
    except (ValueError, OverflowError):
        faults.append({"parameter": name, "detail": _FORM})
        return None
    if not FIRST_YEAR <= moment.astimezone(zone).year <= LAST_YEAR:
        faults.append({"parameter": name, "detail": f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}"})
    return moment


def _compare(since: datetime, until: datetime | None, now: datetime, faults: Faults) -> None:
    if until is not None and until <= since:
        detail = "must lie after `since`, which is the first instant of this month when it is not given"
        faults.append({"parameter": "until", "detail": detail})
    if (now if until is None else until) - since > _MOST:
        detail = f"must lie at most {MOST_YEARS} years before `until`, or before now when that is not given"
        faults.append({"parameter": "since", "detail": detail})

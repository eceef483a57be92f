"""Days and months as parameters of a statement, which finds a moment's among them by `width_bucket`."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from app.ledger.windows import days_through, first_instant, local_date, next_month
from app.reports.period import Period

_BEYOND: Final = timedelta(days=2)  # the end of the last day is among the beginnings, however long that day is
_AHEAD: Final = timedelta(days=62)
"""How far after now something can have been booked: where the books open again, which is the end of a month."""


def days_of(period: Period, zone: ZoneInfo, *, now: datetime) -> tuple[list[date], list[datetime]]:
    """Each local date that something in the period can have been booked on, and the moment it begins."""
    last = period.until if period.until is not None else max(now, period.since) + _AHEAD
    return days_through(period.since, last, zone)


def day_starts(first: datetime, last: datetime, zone: ZoneInfo) -> list[datetime]:
    """The first instants of the local dates from that of `first` to the one after that of `last`, and more."""
    return days_through(first, last + _BEYOND, zone)[1]


@dataclass(frozen=True, slots=True)
class Months:
    """`2026-10` and the like, and the first instant of each."""

    names: list[str]
    starts: list[datetime]


def months_through(first: datetime, last: datetime, zone: ZoneInfo) -> Months:
    """From the month that `first` falls into to the one after that of `last`."""
    month, found = local_date(first, zone).replace(day=1), Months([], [])
    while not found.starts or found.starts[-1] <= last:
        found.names.append(f"{month:%Y-%m}")
        found.starts.append(first_instant(month, zone))
        month = next_month(month)
    return found


def stamp(period: Period, zone: ZoneInfo) -> str:
    """`2026-10-01_2026-11-01`: a period in the name of a file, by the clocks of `zone`."""
    return f"{_written(period.since, zone)}_{'open' if period.until is None else _written(period.until, zone)}"


def _written(moment: datetime, zone: ZoneInfo) -> str:
    local = moment.astimezone(zone)
    return f"{local:%Y-%m-%d}" if (local.hour, local.minute, local.second) == (0, 0, 0) else f"{local:%Y-%m-%dT%H%M%S}"

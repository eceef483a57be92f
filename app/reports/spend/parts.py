"""Which part of a period whole days and months tell, and which only entries do."""

from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from app.ledger.windows import first_instant, local_date, next_month
from app.reports.period import Period


@dataclass(frozen=True, slots=True)
class Days:
    """`[first, end)`, local dates; `end` None: open."""

    first: date
    end: date | None

    def is_empty(self) -> bool:
        """Whether no day is among them."""
        return self.end is not None and self.end <= self.first


@dataclass(frozen=True, slots=True)
class Parts:
    """What a period consists of.

    `months` are whole ones, `days` are the whole days outside of them, `summed` the period of both together; `edges`
    are what is left: at most the rest of a first day and the beginning of a last one.
    """

    months: Days | None
    days: tuple[Days, ...]
    summed: Period | None
    edges: tuple[Period, ...]


def only_entries(period: Period) -> Parts:
    """Nothing of it is told by sums."""
    return Parts(None, (), None, (period,))


def split(period: Period, zone: ZoneInfo, *, by_month: bool) -> Parts:
    """Into whole months (when `by_month`), whole days, and the edges."""
    first = local_date(period.since, zone)
    if first_instant(first, zone) < period.since:
        first += timedelta(days=1)
    whole = Days(first, None if period.until is None else local_date(period.until, zone))
    summed = Period(first_instant(first, zone), None if whole.end is None else first_instant(whole.end, zone))
    if whole.is_empty() or summed.until == summed.since:
        return only_entries(period)
    months, days = _months_of(whole) if by_month else (None, (whole,))
    edges = [Period(period.since, summed.since)]
    if summed.until is not None:
        edges.append(Period(summed.until, period.until))
    return Parts(months, days, summed, tuple(edge for edge in edges if edge.since != edge.until))


def _months_of(whole: Days) -> tuple[Days | None, tuple[Days, ...]]:
    first = whole.first if whole.first.day == 1 else next_month(whole.first)
    months = Days(first, None if whole.end is None else whole.end.replace(day=1))
    if months.is_empty():
        return None, (whole,)
    parts = [Days(whole.first, months.first)]
    if months.end is not None:
        parts.append(Days(months.end, whole.end))
    return months, tuple(part for part in parts if not part.is_empty())

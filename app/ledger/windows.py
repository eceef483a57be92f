"""Windows of time: half-open, tiling, computed here because Postgres' date_trunc overlaps when clocks change."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

Kind = Literal["minute", "hour", "day", "week", "month", "lifetime"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KINDS: Final[tuple[Kind, ...]] = ("minute", "hour", "day", "week", "month", "lifetime")


@dataclass(frozen=True, slots=True)
class Window:
    """`[starts_at, ends_at)` in UTC; `ends_at` None: it never ends."""

    starts_at: datetime
    ends_at: datetime | None


ALWAYS: Final = Window(EPOCH, None)
"""The window of `lifetime`, and of `in_flight`, which has none."""


def window_at(kind: Kind | None, moment: datetime, zone: ZoneInfo) -> Window:
    """The window of this kind that `moment` falls into.

    Days, weeks (from Monday) and months begin at the first instant of the local date in `zone`; minutes and hours
    are fixed lengths in UTC.
    """
    match kind:
        case "minute":
            return _fixed(moment, timedelta(minutes=1))
        case "hour":
            return _fixed(moment, timedelta(hours=1))
        case "day":
            return _local(moment, zone, first=lambda day: day, following=lambda day: day + timedelta(days=1))
        case "week":
            return _local(
                moment,
                zone,
                first=lambda day: day - timedelta(days=day.weekday()),
                following=lambda day: day + timedelta(days=7),
            )
        case "month":
            return _local(moment, zone, first=lambda day: day.replace(day=1), following=next_month)
        case _:
            return ALWAYS


def local_date(moment: datetime, zone: ZoneInfo) -> date:
    """The day, in `zone`, whose window `moment` falls into."""
    return (window_at("day", moment, zone).starts_at).astimezone(zone).date()


def days_through(first: datetime, last: datetime, zone: ZoneInfo) -> tuple[list[date], list[datetime]]:
    """Each local date from that of `first` to that of `last`, and the moment it begins.

    For `width_bucket`, which finds a moment's day among those beginnings as `local_date` does.
    """
    begins, ends = local_date(first, zone), local_date(last, zone)
    days = [begins + timedelta(days=count) for count in range((ends - begins).days + 1)]
    return days, [first_instant(day, zone) for day in days]


def _fixed(moment: datetime, length: timedelta) -> Window:
    starts_at = moment.astimezone(UTC) - (moment - EPOCH) % length
    return Window(starts_at, starts_at + length)


def _local(
    moment: datetime, zone: ZoneInfo, *, first: Callable[[date], date], following: Callable[[date], date]
) -> Window:
    begins = first(moment.astimezone(zone).date())
    starts_at, ends_at = first_instant(begins, zone), first_instant(following(begins), zone)
    while ends_at <= moment:  # clocks put back across midnight: the new day has begun, whatever they show
        begins = following(begins)
        starts_at, ends_at = ends_at, first_instant(following(begins), zone)
    return Window(starts_at, ends_at)


def first_instant(day: date, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, at which this local date begins.

    fold=0: the earlier of two midnights; and of a midnight that is skipped, the moment of the skip (PEP 495).
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone, fold=0).astimezone(UTC)


def next_month(day: date) -> date:
    """The first day of the month after."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)

"""Windows tile time: no gap, no overlap, each moment in its own, in every time zone from 2011 to 2040."""

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ledger.windows import ALWAYS, KINDS, Kind, Window, local_date, window_at

FIRST = datetime(2011, 1, 1, tzinfo=UTC)
LAST = datetime(2041, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
Changes = tuple[tuple[datetime, timedelta, timedelta], ...]


@cache
def pinned(name: str) -> ZoneInfo:
    """A zone of the pinned wheel, whatever this machine's own time zones are."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


ZONES = sorted(files("tzdata").joinpath("zones").read_text().split())


def zones() -> list[ZoneInfo]:
    return [pinned(name) for name in ZONES]


def offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found


def changes(zone: ZoneInfo) -> Changes:
    """Each change of the zone's UTC offset, to the second, with the offsets before and after it."""
    found, step = [], timedelta(days=4)
    moment, before = FIRST - step, offset(zone, FIRST - step)
    while moment < LAST:
        after = offset(zone, moment + step)
        if after != before:
            early, late = moment, moment + step
            while late - early > timedelta(seconds=1):
                middle = early + timedelta(seconds=(late - early).total_seconds() // 2)
                early, late = (middle, late) if offset(zone, middle) == before else (early, middle)
            found.append((late, before, offset(zone, late)))
        moment, before = moment + step, after
    return tuple(found)


@cache
def different_zones() -> dict[tuple[timedelta, Changes], ZoneInfo]:
    """One zone of each kind: zones whose clocks always agree have the same windows."""
    return {(offset(zone, FIRST), changes(zone)): zone for zone in zones()}


def walk(kind: Kind, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[Window]:
    """Every window from one moment to another, each checked against the one before it."""
    window = window_at(kind, since, zone)
    assert window.starts_at <= since
    while True:
        assert window.ends_at is not None
        assert window.starts_at < window.ends_at, f"{kind} of {zone} is empty: {window}"
        assert window_at(kind, window.ends_at - INSTANT, zone) == window, f"{kind} of {zone}: {window}"
        yield window
        if window.ends_at >= until:
            return
        following = window_at(kind, window.ends_at, zone)
        assert following.starts_at == window.ends_at, f"{kind} of {zone}: {window} is followed by {following}"
        window = following


def middle(window: Window) -> datetime:
    assert window.ends_at is not None
    return window.starts_at + (window.ends_at - window.starts_at) / 2


def check_all(kind: Kind, zone: ZoneInfo, since: datetime, until: datetime) -> int:
    days: list[date] = []
    for window in walk(kind, zone, since, until):
        assert window_at(kind, middle(window), zone) == window
        days.append(local_date(window.starts_at, zone))
    assert all(one < other for one, other in itertools.pairwise(days)), f"{kind} of {zone}: a day comes twice"
    return len(days)


def test_every_zone_is_walked() -> None:
    assert len(ZONES) > 590
    assert len(different_zones()) > 100


def test_days_tile_around_each_change_of_clocks_in_every_zone() -> None:
    near = timedelta(days=3)
    walked = sum(
        check_all("day", zone, moment - near, moment + near)
        for (_, changing), zone in different_zones().items()
        for moment, _, _ in changing
    )
    assert walked > 15_000


@pytest.mark.parametrize("kind", ["week", "month"])
def test_weeks_and_months_tile_around_each_change_of_clocks_in_every_zone(kind: Kind) -> None:
    for (_, changing), zone in different_zones().items():
        for moment, _, _ in changing:
            check_all(kind, zone, moment - timedelta(days=2), moment + timedelta(days=2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_windows_tile_2011_to_2040_in_every_zone(kind: Kind) -> None:
    for zone in zones():
        check_all(kind, zone, FIRST, LAST)


@pytest.mark.parametrize("kind", ["minute", "hour"])
def test_minutes_and_hours_are_fixed_lengths_whatever_clocks_do(kind: Kind) -> None:
    length = timedelta(minutes=1) if kind == "minute" else timedelta(hours=1)
    for name in ("UTC", "Australia/Lord_Howe", "Asia/Kathmandu"):
        for window in walk(kind, pinned(name), datetime(2024, 4, 6, 12, tzinfo=UTC), datetime(2024, 4, 7, tzinfo=UTC)):
            assert window.ends_at == window.starts_at + length
            assert window.starts_at.second == 0


@pytest.mark.parametrize(
    ("zone", "moment", "starts_at", "ends_at", "day"),
    [
        # midnight is skipped: 23:59:59 is followed by 01:00
        ("America/Sao_Paulo", "2018-11-04T03:00", "2018-11-04T03:00", "2018-11-05T02:00", "2018-11-04"),
        ("America/Sao_Paulo", "2018-11-04T02:59", "2018-11-03T03:00", "2018-11-04T03:00", "2018-11-03"),
        # 18 February 2018 began one hour later by the sun: the 17th had 25 hours
        ("America/Sao_Paulo", "2018-02-18T02:30", "2018-02-17T02:00", "2018-02-18T03:00", "2018-02-17"),
        # there was no 30 December 2011: the 29th is followed by the 31st
        ("Pacific/Apia", "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00", "2011-12-31"),
        ("Pacific/Fakaofo", "2011-12-30T11:00", "2011-12-30T11:00", "2011-12-31T11:00", "2011-12-31"),
        # midnight comes twice: the day begins with the first
        ("America/Havana", "2018-11-04T04:30", "2018-11-04T04:00", "2018-11-05T05:00", "2018-11-04"),
        ("America/Havana", "2018-11-04T05:30", "2018-11-04T04:00", "2018-11-05T05:00", "2018-11-04"),
        # half an hour
        ("Australia/Lord_Howe", "2019-04-06T20:00", "2019-04-06T13:00", "2019-04-07T13:30", "2019-04-07"),
        # both at midnight; in 2014 four changes in a year
        ("Africa/Cairo", "2014-05-15T22:00", "2014-05-15T22:00", "2014-05-16T21:00", "2014-05-16"),
        ("Africa/Cairo", "2014-09-25T21:30", "2014-09-24T21:00", "2014-09-25T22:00", "2014-09-25"),
        # as far ahead as any
        ("Pacific/Kiritimati", "2024-02-29T09:59", "2024-02-28T10:00", "2024-02-29T10:00", "2024-02-29"),
        # Ramadan: an hour back for a month
        ("Africa/Casablanca", "2024-03-10T12:00", "2024-03-09T23:00", "2024-03-11T00:00", "2024-03-10"),
        # three hours back at midnight
        ("Antarctica/Casey", "2021-03-13T14:30", "2021-03-12T13:00", "2021-03-13T16:00", "2021-03-13"),
    ],
)
def test_hard_days(zone: str, moment: str, starts_at: str, ends_at: str, day: str) -> None:
    def utc(text: str) -> datetime:
        return datetime.fromisoformat(text + "+00:00")

    assert window_at("day", utc(moment), pinned(zone)) == Window(utc(starts_at), utc(ends_at))
    assert local_date(utc(moment), pinned(zone)) == date.fromisoformat(day)


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    berlin, moment = pinned("Europe/Berlin"), datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert window_at("week", moment, berlin) == Window(
        datetime(2026, 3, 22, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)
    )
    assert window_at("month", moment, berlin) == Window(
        datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC)
    )


def test_lifetime_and_in_flight_have_one_window() -> None:
    for kind in ("lifetime", None):
        assert window_at(kind, FIRST, pinned("UTC")) == ALWAYS


@settings(max_examples=400, deadline=None)
@given(
    st.datetimes(datetime(2011, 1, 1), datetime(2040, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(ZONES),
    st.sampled_from(KINDS[:-1]),
)
def test_each_moment_is_in_its_own_window(moment: datetime, name: str, kind: Kind) -> None:
    zone = pinned(name)
    window = window_at(kind, moment, zone)
    assert window.ends_at is not None
    assert window.starts_at <= moment < window.ends_at
    for other in (window.starts_at, middle(window), window.ends_at - INSTANT):
        assert window_at(kind, other, zone) == window
    assert window_at(kind, window.ends_at, zone).starts_at == window.ends_at
    assert window_at(kind, moment.astimezone(zone), zone) == window
    if kind == "day":
        assert local_date(moment, zone) == window.starts_at.astimezone(zone).date()

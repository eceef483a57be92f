"""Whatever the history, the grouping, the time zone and the day: the lines are what the entries say, and add up."""

import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.accounts.callers import COMMAND_LINE
from app.db import Database
from app.ledger.settles import Extra
from app.ledger.spend import rebuild_spend
from app.reports.period import Period
from app.reports.spend.groups import Groups
from app.reports.spend.report import Asked, Line, read_spend
from app.settings import wheel_zone
from tests.conftest import settings_for
from tests.ledger.house import Clock, House
from tests.ledger.test_exactly_once import book
from tests.reports.history import Booked, Job, Key, Maker, Sums, added_up, expected, read, transitions, write

YEARS: Final = {
    "UTC": 2026,
    "Europe/Berlin": 2026,
    "America/New_York": 2026,
    "Asia/Kathmandu": 2026,
    "America/Havana": 2026,  # midnight is skipped, and comes twice
    "Australia/Lord_Howe": 2026,  # by half an hour
    "Pacific/Apia": 2011,  # a day is skipped
    "America/Sao_Paulo": 2018,  # midnight is skipped, an evening comes twice
    "Africa/Casablanca": 2026,
}
NAMES: Final = ("day", "week", "month", "team", "user", "key", "end_user", "model", "tag.film", "tag.x")
GROUPINGS: Final[Sequence[tuple[str, ...]]] = (
    (), ("day", "team"), ("month", "user"), ("team", "key", "model"), ("week", "day", "month"), ("end_user",), NAMES,
)  # fmt: skip

Question = tuple[str, list[Job], list[Period], list[str]]
"""A zone, a history, periods and a grouping."""

KINDS = st.sampled_from(["overage", "adjustment"])
CENTS = st.integers(1, 400).map(lambda cents: Decimal(cents) / 100)
MAKERS = st.builds(
    Maker,
    team=st.integers(1, 2),
    user=st.integers(1, 3),
    key=st.integers(1, 2),
    model=st.sampled_from(["kling-2.1-master", "veo-3.1"]),
    end_user=st.sampled_from([None, "", "42"]),
    tags=st.dictionaries(st.sampled_from(["film", "x"]), st.sampled_from(["a", "=cmd()", ""]), max_size=2),
)


def moments(zone: ZoneInfo, year: int) -> st.SearchStrategy[datetime]:
    """Of a year: mostly where clocks change, and where days and months begin."""
    changes = transitions(zone, year) or [datetime(year, 3, 1, tzinfo=UTC)]
    near = st.builds(
        lambda at, minutes: at + timedelta(minutes=minutes), st.sampled_from(changes), st.integers(-2160, 2160)
    )
    midnights = st.builds(
        lambda day, fold, off: (
            datetime(day.year, day.month, day.day, tzinfo=zone, fold=fold).astimezone(UTC) + timedelta(microseconds=off)
        ),
        st.sampled_from([change.astimezone(zone).date() for change in changes] + [date(year, 3, 1), date(year, 12, 1)]),
        st.integers(0, 1),
        st.integers(-1, 1),
    )
    return st.one_of(near, midnights, near.map(lambda at: at + timedelta(days=31)))


@st.composite
def histories(draw: st.DrawFn, at: st.SearchStrategy[datetime]) -> list[Job]:
    """Some jobs: open, settled or voided, with overages and adjustments, in whatever order they were booked."""
    made = []
    for _ in range(draw(st.integers(0, 12))):
        usd, seconds = draw(CENTS), Decimal(draw(st.sampled_from(["5", "10", "7.5"])))
        entries = [Booked("hold", draw(at), usd, seconds)]
        how = draw(st.sampled_from(["open", "settle", "settle", "void"]))
        if how != "open":
            status = draw(st.sampled_from(["succeeded", "failed", "canceled"]))
            charged = usd if how == "void" else draw(CENTS)
            entries.append(Booked(how, draw(at), charged, seconds, status))
        entries += [
            Booked(
                draw(KINDS), draw(at), draw(CENTS) * draw(st.sampled_from([1, -1])), Decimal(draw(st.integers(-5, 5)))
            )
            for _ in range(draw(st.integers(0, 2)))
        ]
        made.append(Job(draw(MAKERS), tuple(entries), knows_status=draw(st.booleans())))
    return made


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """A zone, a history, periods that cut it anywhere, and a grouping beside the usual ones."""
    name = draw(st.sampled_from([*YEARS]))
    at = moments(wheel_zone(name), YEARS[name])
    history = draw(histories(at))
    cuts = sorted({draw(at), draw(at), draw(at)})
    periods = [Period(one, other) for one, other in itertools.pairwise(cuts)]
    everything = datetime(YEARS[name], 1, 1, tzinfo=UTC)
    grouping = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    return name, history, [*periods, Period(cuts[-1], None), Period(everything, None)], grouping


async def lines_of(db: Database, period: Period, names: Sequence[str], zone: ZoneInfo) -> tuple[dict[Key, Sums], Sums]:
    """A report's lines by what they are of, and its total; no two lines are of the same."""
    lines: list[Line] = []
    now = datetime(max(YEARS.values()), 12, 31, tzinfo=UTC)
    asked = Asked(period, Groups(tuple(names)), zone, now)
    total = await read_spend(db, asked, actor=COMMAND_LINE, take=lines.extend)
    found = {line[:-7]: tuple(map(Decimal, line[-7:])) for line in lines}
    assert len(found) == len(lines)
    return found, (total.charged_usd, total.held_usd, total.seconds, *map(Decimal, total.counts))


async def check(db: Database, question: Question) -> None:
    name, history, periods, grouping = question
    zone = wheel_zone(name)
    await write(db, history)
    await rebuild_spend(db, zone=zone)
    for period in periods:
        for names in (*GROUPINGS, tuple(grouping)) if period.until is None else (("month",), tuple(grouping)):
            lines, total = await lines_of(db, period, names, zone)
            told = expected(history, names, period=period, zone=zone)
            assert lines == told, (names, period)
            assert total == added_up(told.values()), (names, period)


@settings(
    max_examples=25, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(questions())
async def test_every_report_is_what_the_entries_say(db: Database, question: Question) -> None:
    await check(db, question)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(questions())
async def test_every_report_of_many_more_histories_is_what_the_entries_say(db: Database, question: Question) -> None:
    await check(db, question)


async def test_what_the_gateway_itself_booked_is_in_its_reports_at_once(database_url: str) -> None:
    """Across the night in which Berlin's clocks go back, without any sum written anew."""
    berlin = settings_for(database_url, timezone="Europe/Berlin")
    house = House(berlin, clock=Clock(datetime(2026, 10, 24, 21, tzinfo=UTC)))
    zone = house.wiring.settings.zone
    everything = Period(house.clock(), None)
    try:
        people = [await house.someone(), await house.someone()]
        open_jobs = []
        for hour in range(30):
            job_id = await house.submit(people[hour % 2], seconds=(5, 10)[hour % 2], end_user=(None, "42")[hour % 2])
            open_jobs.append(job_id)
            house.clock.advance(minutes=59)
            ended = open_jobs.pop(0) if hour % 3 else None
            if ended is not None and hour % 4:
                await house.end(ended)
                extra = Extra(kind="adjustment", source="x", usd=Decimal("-0.01"), seconds=Decimal(1), note="x", by="x")
                await book(house, ended, extra)
            elif ended is not None:
                await house.void(ended)
            history = await read(house.db)
            for names in (("day", "model"), ("month",), ("end_user",)):
                lines, _ = await lines_of(house.db, everything, names, zone)
                assert lines == expected(history, names, period=everything, zone=zone)
        assert open_jobs
        assert await house.audit() == []
    finally:
        await house.close()

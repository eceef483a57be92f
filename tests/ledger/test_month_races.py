"""Whatever happens meanwhile, in whatever order: a closed month stays as it is, and the months sum to the ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.jobs.ends.adjust import JobNotEnded
from app.ledger.months.closing import LaterMonthClosed, MonthClosed, MonthEmpty, MonthNotClosed, MonthNotOver, bounds_of
from app.ledger.months.shapes import Closing, Month
from app.ledger.months.sums import sql_told
from app.ledger.spend import SUMS
from app.ledger.windows import local_date, next_month
from app.problems import InvalidInput
from app.settings import Settings
from tests.conftest import settings_for

from .closing import adjust, close, reopen, sums, totals
from .house import Clock, House

MAY = date(2026, 5, 1)
BEFORE_JUNE = datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
async def slow(settings: Settings) -> AsyncIterator[list[House]]:
    """Three replicas whose clocks still say May."""
    houses = [House(settings, clock=Clock(BEFORE_JUNE)) for _ in range(3)]
    yield houses
    for each in houses:
        await each.close()


async def test_a_month_that_is_closed_while_hundreds_of_jobs_settle_never_changes_again(
    house: House, slow: list[House]
) -> None:
    """Two close at once: one does, and what the replicas still do, by clocks that say May, is booked in June."""
    await house.quota("100000.00", window="month")
    who = await house.someone()
    jobs = await asyncio.gather(*(slow[number % 3].submit(who) for number in range(300)))
    house.clock.now = BEFORE_JUNE + timedelta(seconds=1)
    is_midway = asyncio.Event()

    async def work(number: int) -> None:
        at = slow[number % 3]
        match number % 5:
            case 0:
                await at.void(jobs[number])
            case 1:
                await at.submit(who)
            case 2:
                await at.end(jobs[number])
                await adjust(at, jobs[number], "0.01")
            case _:
                await at.end(jobs[number])
        if number == 105:
            is_midway.set()

    async def close_midway() -> Closing | MonthClosed:
        await is_midway.wait()
        try:
            return await close(house, MAY)
        except MonthClosed as refused:
            return refused

    closers = [asyncio.create_task(close_midway()) for _ in range(2)]
    working = asyncio.gather(*(in_turn(work, range(first, first + 10)) for first in range(0, 300, 10)))
    outcomes = await asyncio.gather(*closers)
    (closing,) = (one for one in outcomes if isinstance(one, Closing))
    (may,) = closing.closed
    while not working.done():
        assert await sums(house, MAY) == totals(may)
    await working
    late = await house.value("SELECT count(*) FROM entries WHERE booked_at >= '2026-06-01Z'")
    in_time = await house.value("SELECT count(*) FROM entries WHERE booked_at < '2026-06-01Z' AND kind <> 'hold'")
    assert late > 0, "nothing was late: this was no race"
    assert in_time > 0, "everything was late: this was no race"
    assert await sums(house, MAY) == await sums(house, MAY, sql_told) == totals(may)
    assert await house.audit() == []


async def in_turn(work: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    for number in numbers:
        await work(number)


class History:
    """A house to which things happen, and what was true of each month when it was closed."""

    def __init__(self, house: House, slow: House, who: Any) -> None:
        self.house = house
        self.slow = slow
        self.who = who
        self.jobs: list[UUID] = []
        self.closed: dict[date, Month] = {}
        self.zone = house.wiring.settings.zone

    async def do(self, what: str, number: int) -> None:
        house = self.slow if number % 3 == 0 else self.house
        job_id = self.jobs[number % len(self.jobs)] if self.jobs else None
        this_month = local_date(self.house.clock(), self.zone).replace(day=1)
        match what:
            case "submit":
                self.jobs.append(await house.submit(self.who))
            case "end" if job_id:
                await house.end(job_id, usd=("0", None, "2.00")[number % 3])
            case "adjust" if job_id:
                await self.adjust(house, job_id, number, this_month)
            case "wait":
                self.house.clock.advance(hours=(1, 30, 24 * 12, 24 * 33)[number % 4])
                self.slow.clock.now = self.house.clock.now - timedelta(minutes=4)
            case "close":
                await self.close(this_month if number % 4 == 0 else (this_month - timedelta(days=1)).replace(day=1))
            case "reopen":
                await self.reopen(max(self.closed) if self.closed and number % 4 else (this_month))

    async def adjust(self, house: House, job_id: UUID, number: int, this_month: date) -> None:
        month = [None, this_month, (this_month - timedelta(days=1)).replace(day=1)][number % 3]
        try:
            await adjust(house, job_id, ("0.30", "-0.20")[number % 2], month=month)
        except MonthClosed:
            assert month is not None
            assert self.closed
            assert month <= max(self.closed)
        except (JobNotEnded, InvalidInput):
            pass

    async def close(self, month: date) -> None:
        try:
            closing = await close(self.house, month)
        except MonthNotOver:
            assert bounds_of(month, self.zone)[1] > self.house.clock()
        except MonthClosed:
            assert month <= max(self.closed)
        except MonthEmpty:
            assert not self.closed
        else:
            self.closed |= {one.month: one for one in closing.closed}
            assert sorted(self.closed) == list(self.closed), "in their order, each once"
            assert max(self.closed) == month

    async def reopen(self, month: date) -> None:
        try:
            await reopen(self.house, month)
        except LaterMonthClosed:
            assert month < max(self.closed)
        except MonthNotClosed:
            assert month not in self.closed
        else:
            assert month == max(self.closed)
            del self.closed[month]

    async def check(self) -> None:
        for month, as_it_was in self.closed.items():
            assert await sums(self.house, month) == await sums(self.house, month, sql_told) == totals(as_it_was)


async def empty(house: House) -> None:
    async with house.db.begin_plain() as plain:
        await plain.execute("SET LOCAL session_replication_role = replica")
        await plain.execute(
            "TRUNCATE teams, users, audit_log, jobs, entries, spend_daily, spend_monthly, closed_months CASCADE;"
            "UPDATE books SET open_since = '-infinity'"
        )


async def live(url: str, zone: str, acts: list[tuple[str, int]]) -> None:
    given = settings_for(url, TIMEZONE=zone)
    starts_at = datetime(2026, 2, 25, 12, tzinfo=UTC)  # both changes of clocks are ahead
    house, slow = House(given, clock=Clock(starts_at)), House(given, clock=Clock(starts_at - timedelta(minutes=4)))
    try:
        await empty(house)
        history = History(house, slow, await house.someone())
        for what, number in [("submit", 1), ("submit", 0), ("end", 1), *acts]:
            await history.do(what, number)
            await history.check()
        assert await house.audit() == []
        day, last, counted = starts_at.date().replace(day=1), house.clock().date(), dict.fromkeys(SUMS, Decimal(0))
        while day <= next_month(last):
            counted = {name: counted[name] + value for name, value in (await sums(house, day)).items()}
            day = next_month(day)
        charged = await house.value(
            "SELECT coalesce(sum(amount_usd), 0) FROM entries WHERE kind NOT IN ('hold', 'void')"
        )
        assert counted["charged_usd"] == charged
        assert counted["jobs"] == len(history.jobs)
    finally:
        await house.close()
        await slow.close()


ACTS = ["submit", "end", "end", "adjust", "wait", "close", "close", "reopen"]


@pytest.mark.parametrize("histories", [4, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Africa/Cairo"])
def test_a_closed_month_stays_as_it_is_in_any_history_and_the_months_sum_to_the_ledger(
    database_url: str, zone: str, histories: int
) -> None:
    @settings(
        max_examples=histories, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 11)), min_size=15, max_size=25))
    def in_any(acts: list[tuple[str, int]]) -> None:
        asyncio.run(live(database_url, zone, acts))

    in_any()

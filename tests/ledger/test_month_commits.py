"""The answer to the COMMIT of a closing or an adjustment is lost: it is looked up, and a repeat changes nothing."""

import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.ledger.months.closing import MonthClosed
from tests.conftest import settings_for

from .closing import adjust, close, reopen
from .house import START, Clock, House
from .relay import Cut, Relay, relay_to

MAY = date(2026, 5, 1)
LOST: list[Cut] = ["before COMMIT", "after COMMIT"]


@pytest.mark.parametrize("cut", LOST)
async def test_a_closing_an_opening_and_an_adjustment_are_told_as_they_went(database_url: str, cut: Cut) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        async with relay_to(database_url, Path(folder)) as (relay, url):
            house = House(settings_for(url), clock=Clock(START))
            try:
                await lose_each(house, relay, cut)
            finally:
                await house.close()


async def lose_each(house: House, relay: Relay, cut: Cut) -> None:
    job_id = await house.submit(await house.someone())
    await house.end(job_id)
    house.clock.now = datetime(2026, 6, 2, tzinfo=UTC)
    has_happened = cut == "after COMMIT"

    relay.cut = cut
    if has_happened:
        assert [one.month for one in (await close(house, MAY)).closed] == [MAY]
        with pytest.raises(MonthClosed):
            await close(house, MAY)
    else:
        with pytest.raises(ConnectionResetError):
            await close(house, MAY)
        assert [one.month for one in (await close(house, MAY)).closed] == [MAY]

    relay.cut = cut
    if has_happened:
        await reopen(house, MAY)
    else:
        with pytest.raises(ConnectionResetError):
            await reopen(house, MAY)
        assert await house.value("SELECT open_since FROM books") == datetime(2026, 6, 1, tzinfo=UTC)
        await reopen(house, MAY)

    relay.cut = cut
    if has_happened:
        assert not (await adjust(house, job_id, "-0.40", key="once")).is_repeated
    else:
        with pytest.raises(ConnectionResetError):
            await adjust(house, job_id, "-0.40", key="once")
    assert (await adjust(house, job_id, "-0.40", key="once")).is_repeated == has_happened
    assert (await house.job(job_id))["charged_usd"] == Decimal("1.00")
    assert relay.cuts == 3
    assert await house.audit() == []

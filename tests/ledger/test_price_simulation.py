"""What the last days' jobs would have cost: the jobs that a price would be for, told from their inputs."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from app.accounts.callers import COMMAND_LINE
from app.jobs.forgetting.forget import forget_jobs
from app.ledger.prices import simulation
from app.ledger.prices.book import create_price
from app.ledger.prices.shapes import PriceBody, Simulation, SimulationBody
from app.ledger.prices.simulation import simulate_price
from app.problems import InvalidInput
from tests.jobs.hand import TEXT

from .house import House, Someone

DEARER = {"base_seconds": 5, "base_usd": "1.50", "usd_per_second": "0.30"}


async def simulate(house: House, **change: Any) -> Simulation:
    body = SimulationBody.model_validate({"endpoint": TEXT, **DEARER, **change})
    return await simulate_price(house.db, body, catalogue=house.wiring.catalogue, now=house.clock())


async def charge(house: House, who: Someone, **what: Any) -> None:
    """A job that succeeded a minute ago."""
    job_id = await house.submit(who, **what)
    assert await house.end(job_id)


async def add_price(house: House, **change: Any) -> None:
    body = PriceBody.model_validate({"endpoint": TEXT, **DEARER, **change})
    async with house.db.begin() as tx:
        await create_price(tx, body, catalogue=house.wiring.catalogue, actor=COMMAND_LINE, now=house.clock())


def figures(found: Any) -> tuple[int, str, str, str]:
    return found.jobs, f"{found.quoted_usd:.2f}", f"{found.simulated_usd:.2f}", f"{found.difference_usd:.2f}"


@pytest.fixture
async def stocked(house: House) -> AsyncIterator[House]:
    """Two teams: one had a video of 5 s and one of 10, the other one of 10. And four that count for nothing."""
    one, other = await house.someone(), await house.someone()
    await charge(house, one)
    await charge(house, one, seconds=10)
    await charge(house, other, seconds=10)
    free = await house.submit(one)
    assert await house.end(free, usd="0")
    assert await house.void(await house.submit(one))
    await house.submit(one)
    house.clock.advance(minutes=1)
    yield house
    assert await house.audit() == []


async def test_every_charged_job_at_the_new_price_by_team(stocked: House) -> None:
    found = await simulate(stocked)
    assert figures(found) == (3, "7.00", "7.50", "0.50")
    assert (found.until, found.since) == (stocked.clock(), stocked.clock() - timedelta(days=30))
    assert [(team.team, *figures(team)) for team in found.by_team] == [
        ("team 1", 2, "4.20", "4.50", "0.30"),
        ("team 3", 1, "2.80", "3.00", "0.20"),
    ]
    assert (found.unknown_jobs, found.unpriced_jobs) == (0, 0)


async def test_only_the_days_asked_for_count(stocked: House) -> None:
    stocked.clock.advance(days=2)
    assert figures(await simulate(stocked, days=1))[0] == 0
    assert figures(await simulate(stocked, days=3))[0] == 3


async def test_a_price_of_some_inputs_takes_the_place_of_its_own_kind(stocked: House) -> None:
    """With one for each duration in force, a new one for 10 s is for the jobs of 10 s alone."""
    await stocked.execute("DELETE FROM prices WHERE endpoint = $1", TEXT)
    await add_price(stocked, when={"duration": "5"})
    await add_price(stocked, when={"duration": "10"})
    found = await simulate(stocked, when={"duration": "10"}, base_usd="2.00", base_seconds=10)
    assert figures(found) == (2, "5.60", "4.00", "-1.60")
    assert (found.unknown_jobs, found.unpriced_jobs) == (0, 0)


async def test_jobs_that_two_prices_would_be_for_are_told_apart(stocked: House) -> None:
    """Beside the price for all inputs one for some is a mistake: their like would be refused."""
    found = await simulate(stocked, when={"duration": "10"})
    assert (found.jobs, found.unpriced_jobs, found.unknown_jobs) == (0, 2, 0)


async def test_the_prices_in_force_are_those_of_the_day_it_starts(stocked: House) -> None:
    await stocked.execute("DELETE FROM prices WHERE endpoint = $1", TEXT)
    tomorrow = stocked.clock() + timedelta(days=1)
    await add_price(stocked, when={"aspect_ratio": "16:9"}, starts_at=tomorrow)
    today = await simulate(stocked, when={"duration": "10"})
    then = await simulate(stocked, when={"duration": "10"}, starts_at=tomorrow + timedelta(days=1))
    past = await simulate(stocked, when={"duration": "10"}, starts_at="2026-01-01T00:00:00Z")
    assert (today.jobs, today.unpriced_jobs) == (past.jobs, past.unpriced_jobs) == (2, 0)
    assert (then.jobs, then.unpriced_jobs) == (0, 2)


async def test_an_input_kept_before_a_field_existed_has_its_default(stocked: House) -> None:
    """The house keeps inputs without `aspect_ratio`, whose default is 16:9."""
    await stocked.execute("DELETE FROM prices WHERE endpoint = $1", TEXT)
    assert (await simulate(stocked, when={"aspect_ratio": "16:9"})).jobs == 3
    assert (await simulate(stocked, when={"aspect_ratio": "9:16"})).jobs == 0


async def test_the_price_that_a_job_was_quoted_at_tells_its_value_without_a_look(house: House) -> None:
    who = await house.someone()
    await house.execute("DELETE FROM prices WHERE endpoint = $1", TEXT)
    for duration in ("5", "10"):
        await add_price(house, when={"duration": duration})
    await charge(house, who)
    await charge(house, who, seconds=10)
    house.clock.advance(minutes=1)
    await house.execute("UPDATE jobs SET input = '{}'")
    found = await simulate(house, when={"duration": "10"}, base_usd="3.00", base_seconds=10)
    assert figures(found) == (1, "3.00", "3.00", "0.00")


async def test_of_an_erased_input_the_price_it_was_quoted_at_tells_what_it_can(house: House) -> None:
    who = await house.someone()
    await house.execute("DELETE FROM prices WHERE endpoint = $1", TEXT)
    for duration in ("5", "10"):
        await add_price(house, when={"duration": duration})
    await charge(house, who)
    await charge(house, who, seconds=10)
    house.clock.advance(minutes=1)
    jobs = [row["id"] for row in await house.rows("SELECT id FROM jobs")]
    async with house.db.begin_plain() as plain:
        assert len(await forget_jobs(plain, jobs, wiring=house.wiring, now=house.clock())) == 2
    told = await simulate(house, when={"duration": "10"})
    assert (told.jobs, told.unknown_jobs, told.unpriced_jobs) == (1, 0, 0)
    untold = await simulate(house, when={"aspect_ratio": "16:9"})
    assert (untold.jobs, untold.unknown_jobs, untold.unpriced_jobs) == (0, 2, 0)
    partly = await simulate(house, when={"aspect_ratio": "16:9", "duration": "10"})
    assert (partly.jobs, partly.unknown_jobs, partly.unpriced_jobs) == (0, 1, 0)
    await house.execute("DELETE FROM prices")
    alone = await simulate(house)
    assert figures(alone)[0] == 2, "a price for all inputs asks for none"


async def test_text_true_and_one_are_three_values(house: House) -> None:
    who = await house.someone()
    await house.execute("DELETE FROM prices WHERE endpoint = $1", TEXT)
    await add_price(house)
    for value in ("1", 1, True, None):
        await charge(house, who, negative_prompt=value)
    house.clock.advance(minutes=1)
    await house.execute("DELETE FROM prices WHERE endpoint = $1", TEXT)
    assert (await simulate(house, when={"negative_prompt": "1"})).jobs == 1


async def test_what_is_not_served_is_refused(house: House) -> None:
    for change, pointer in (({"endpoint": "x"}, "/endpoint"), ({"when": {"tags": "x"}}, "/when/tags")):
        with pytest.raises(InvalidInput) as raised:
            await simulate(house, **change)
        assert [fault["pointer"] for fault in raised.value.faults] == [pointer]


async def test_too_many_days_are_a_clear_refusal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*_: Any, **__: Any) -> None:
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")

    monkeypatch.setattr(simulation, "_read_groups", read)
    with pytest.raises(InvalidInput) as raised:
        await simulate(house)
    assert [fault["pointer"] for fault in raised.value.faults] == ["/days"]
    assert await house.value("SELECT 1") == Decimal(1)

"""What the release before this one ends beside us is counted afterwards, once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.ledger.older_release import count_older_ends
from app.ledger.spend import is_spend_missing, rebuild_spend

from .house import House
from .test_spend import sums

End = Callable[..., Awaitable[Any]]


@pytest.fixture
async def older(house: House) -> End:
    """Ends a job as the previous release does, which knows one of the two tables and two columns of it."""
    await house.execute("UPDATE books SET counted_until = $1", house.clock())

    async def end(job_id: UUID, **how: Any) -> None:
        days, months = await sums(house)
        await house.end(job_id, **how)
        async with house.db.begin_plain() as plain:
            await plain.execute("SET LOCAL session_replication_role = replica")
            await plain.execute("UPDATE entries SET job_status = NULL WHERE job_id = $1", job_id)
            after = await plain.fetch("SELECT * FROM spend_daily")
            await plain.execute("DELETE FROM spend_daily")
            await plain.execute("DELETE FROM spend_monthly")
            was = {tuple(row[:5]): row[7:] for row in days}
            for row in after:
                values = [*tuple(row)[:7], *was.get(tuple(row)[:5], (0, 0, 0, 0))]
                if any(values[5:]):  # it writes no row for what is free
                    await plain.execute("INSERT INTO spend_daily VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)", *values)
            for row in months:
                await plain.execute("INSERT INTO spend_monthly VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)", *row)

    return end


async def count(house: House) -> None:
    await count_older_ends(house.db, zone=house.wiring.settings.zone, now=house.clock())


async def test_what_both_releases_end_side_by_side_is_counted_once_and_the_books_agree(
    house: House, older: End
) -> None:
    who, other = await house.someone(), await house.someone()
    house.clock.now = datetime(2026, 5, 31, 23, 55, tzinfo=UTC)
    await house.execute("UPDATE books SET counted_until = $1", house.clock())
    charged, free, ours, late = [await house.submit(one) for one in (who, other, who, who)]
    house.clock.advance(minutes=10)
    await older(charged)
    await older(free, usd="0")
    await house.end(ours)
    assert await house.audit() != []
    await count(house)
    assert await house.audit() != [], "a clock may be some minutes slow"
    house.clock.advance(minutes=6)
    await older(late)
    for _ in range(3):
        await count(house)
    assert {difference.what.split()[0] for difference in await house.audit()} <= {"spend_daily", "spend_monthly"}
    house.clock.advance(minutes=6)
    for _ in range(3):
        await count(house)
    assert await house.audit() == []
    house.clock.advance(minutes=6)
    await count(house)
    (row,) = await house.rows("SELECT counted_until FROM books")
    assert (house.clock() - row["counted_until"]).total_seconds() == 300, "so little is looked at again"


async def test_replicas_that_look_at_once_count_once(house: House, older: End) -> None:
    who = await house.someone()
    jobs = [await house.submit(who) for _ in range(3)]
    for job_id in jobs:
        await older(job_id)
    house.clock.advance(minutes=6)
    await asyncio.gather(*(count(house) for _ in range(6)))
    assert await house.audit() == []


async def test_sums_written_anew_are_not_counted_again(house: House, older: End) -> None:
    await older(await house.submit(await house.someone()))
    await rebuild_spend(house.db, zone=house.wiring.settings.zone)
    house.clock.advance(minutes=6)
    await count(house)
    assert await house.audit() == []


async def test_a_history_without_a_charge_is_summed_too_when_it_is_migrated(house: House, older: End) -> None:
    await older(await house.submit(await house.someone()), usd="0")
    assert await sums(house) == ([], [])
    async with house.db.plain() as plain:
        assert await is_spend_missing(plain)

"""The sums by day and month: written anew from entries, they are what was written with the entries."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.ledger import spend
from app.ledger.spend import is_spend_missing, rebuild_spend

from .house import House

COLUMNS = "team_id, user_id, key_id, model, charged_usd, seconds, jobs, succeeded, failed, canceled"


async def sums(house: House) -> tuple[list[Any], list[Any]]:
    days = await house.rows(f"SELECT day, {COLUMNS} FROM spend_daily ORDER BY 1, 2, 3, 4, 5")  # noqa: S608  ours
    months = await house.rows(f"SELECT month, {COLUMNS} FROM spend_monthly ORDER BY 1, 2, 3, 4, 5")  # noqa: S608  ours
    return [tuple(row.values()) for row in days], [tuple(row.values()) for row in months]


async def some_history(house: House) -> None:
    """Held in April, settled in May; voided; another still held."""
    who = await house.someone()
    house.clock.now = datetime(2026, 4, 30, 23, 59, tzinfo=UTC)
    late, free = await house.submit(who), await house.submit(who)
    house.clock.now = datetime(2026, 5, 1, 0, 1, tzinfo=UTC)
    await house.end(late)
    await house.end(free, usd="0")
    await house.submit(who)


async def test_a_job_counts_on_its_holds_day_and_its_end_on_its_own(house: House) -> None:
    await some_history(house)
    days, months = await sums(house)
    assert [(day.isoformat(), *row[3:]) for day, *row in days] == [
        ("2026-04-30", "kling-2.1-master", 0, 0, 2, 0, 0, 0),
        ("2026-05-01", "kling-2.1-master", Decimal("1.40"), 5, 0, 2, 0, 0),
    ]
    assert [(month.isoformat(), *row[4:]) for month, *row in months] == [
        ("2026-04-01", 0, 0, 2, 0, 0, 0),
        ("2026-05-01", Decimal("1.40"), 5, 0, 2, 0, 0),
    ]


async def test_sums_written_anew_are_the_same(house: House) -> None:
    await some_history(house)
    before = await sums(house)
    async with house.db.begin_plain() as plain:
        await plain.execute("DELETE FROM spend_monthly; UPDATE spend_daily SET jobs = 0, succeeded = 0")
        assert await is_spend_missing(plain)
    assert len(await house.audit()) == 4
    await rebuild_spend(house.db, zone=house.wiring.settings.zone)
    assert await sums(house) == before
    assert await house.audit() == []


async def test_ends_of_the_previous_release_are_told_by_their_jobs(house: House) -> None:
    """It wrote no `job_status`."""
    await some_history(house)
    async with house.db.begin_plain() as plain:
        await plain.execute("SET LOCAL session_replication_role = replica; UPDATE entries SET job_status = NULL")
    assert await house.audit() == []


async def test_what_the_previous_release_booked_is_in_the_sums_once_they_are_written_anew(house: House) -> None:
    """It raised dollars and seconds by day alone, and wrote no `job_status`."""
    await some_history(house)
    right = await sums(house)
    async with house.db.begin_plain() as plain:
        await plain.execute(
            "SET LOCAL session_replication_role = replica; UPDATE entries SET job_status = NULL;"
            "UPDATE spend_daily SET jobs = 0, succeeded = 0, failed = 0, canceled = 0;"
            "UPDATE spend_monthly SET charged_usd = 0, seconds = 0, jobs = 0, succeeded = 0, failed = 0, canceled = 0"
        )
    assert {each.what.partition(" ")[0] for each in await house.audit()} == {"spend_daily", "spend_monthly"}
    await rebuild_spend(house.db, zone=house.wiring.settings.zone)
    assert await sums(house) == right
    assert await house.audit() == []


async def test_without_entries_there_is_nothing_to_sum(house: House) -> None:
    await rebuild_spend(house.db, zone=house.wiring.settings.zone)
    assert await sums(house) == ([], [])
    assert await house.audit() == []


async def test_what_is_booked_while_the_books_are_closed_falls_where_they_open_again(house: House) -> None:
    who = await house.someone()
    job_id = await house.submit(who)
    opened = datetime(2026, 6, 1, tzinfo=UTC)
    async with house.db.begin_plain() as plain:
        await plain.execute("UPDATE books SET open_since = $1", opened)
    await house.end(job_id)
    await house.submit(who)
    booked = await house.rows("SELECT kind, booked_at >= '2026-06-01' AS is_moved FROM entries ORDER BY 1, 2")
    assert [tuple(row.values()) for row in booked] == [("hold", False), ("hold", True), ("settle", True)]
    days, _ = await sums(house)
    assert [(day.isoformat(), row[4], row[6], row[7]) for day, *row in days] == [
        ("2026-05-04", 0, 1, 0),
        ("2026-06-01", Decimal("1.40"), 0, 1),
    ]
    assert [difference.what for difference in await house.audit()] == ["books open since"], "no month is closed"


async def test_nothing_is_lost_that_ends_while_sums_are_written_anew(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Day after day, in a transaction each; those who settle come in between."""
    monkeypatch.setattr(spend, "_DAYS_AT_ONCE", 1)
    who = [await house.someone() for _ in range(3)]
    jobs = []
    for number in range(36):
        house.clock.advance(hours=8)
        jobs.append(await house.submit(who[number % 3]))

    async def end_all() -> None:
        for job_id in jobs:
            await house.end(job_id, usd="0" if job_id == jobs[5] else None)

    await asyncio.gather(end_all(), rebuild_spend(house.db, zone=house.wiring.settings.zone))
    assert await house.audit() == []
    assert len((await sums(house))[0]) > 3

"""Closing months: totals are written down and stay, what is late is booked in the open month."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from app.jobs.ends.adjust import JobNotEnded
from app.ledger.months.closing import (
    LaterMonthClosed,
    MonthClosed,
    MonthEmpty,
    MonthNotClosed,
    MonthNotOver,
    SumsDisagree,
)
from app.ledger.months.shapes import show_month
from app.ledger.months.sums import sql_told
from app.ledger.spend import rebuild_spend
from app.problems import InvalidInput
from app.settings import Settings

from .closing import adjust, close, reopen, sums, totals
from .house import FIVE, START, Clock, House

MAY, JUNE, JULY = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
IN_JUNE = datetime(2026, 6, 3, 9, tzinfo=UTC)
BEFORE_JUNE = datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC)


async def booked_at(house: House, job_id: UUID, kind: str) -> datetime:
    moment: datetime = await house.value("SELECT booked_at FROM entries WHERE job_id = $1 AND kind = $2", job_id, kind)
    return moment


async def test_a_closed_month_has_its_totals_and_what_is_still_held_from_it(house: House) -> None:
    who = await house.someone()
    jobs = [await house.submit(who) for _ in range(4)]
    await house.end(jobs[0])
    await house.void(jobs[1])
    house.clock.now = IN_JUNE
    await house.end(jobs[2], usd="9.00")  # charged in June
    closing = await close(house, MAY)
    (may,) = closing.closed
    assert totals(may) == {
        "charged_usd": FIVE, "seconds": 5, "jobs": 4, "succeeded": 1, "failed": 0, "canceled": 1,
    }  # fmt: skip
    assert (may.held_usd, may.held_jobs) == (FIVE, 1)
    assert (closing.held_usd, closing.held_jobs, closing.held_job_ids) == (FIVE, 1, [jobs[3]])
    assert (may.starts_at, may.ends_at) == (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))
    assert (may.closed_at, may.closed_by) == (IN_JUNE, "command line")
    await house.end(jobs[3])
    await adjust(house, jobs[0], "-0.40")
    assert await sums(house, MAY) == await sums(house, MAY, sql_told) == totals(may)
    assert (await sums(house, JUNE))["charged_usd"] == Decimal("10.00")
    assert await house.audit() == []


async def test_every_earlier_month_since_the_first_entry_is_closed_with_it(house: House) -> None:
    who = await house.someone()
    first = await house.submit(who)
    house.clock.now = datetime(2026, 8, 9, tzinfo=UTC)
    await house.end(await house.submit(who))
    house.clock.now = datetime(2026, 9, 9, tzinfo=UTC)
    closing = await close(house, date(2026, 8, 1))
    assert [(show_month(one.month), one.jobs, one.held_jobs) for one in closing.closed] == [
        ("2026-05", 1, 1), ("2026-06", 0, 0), ("2026-07", 0, 0), ("2026-08", 1, 0),
    ]  # fmt: skip
    assert closing.held_job_ids == [first]
    logged = await house.rows("SELECT object_id FROM audit_log WHERE action = 'month.closed' ORDER BY object_id")
    assert [row["object_id"] for row in logged] == ["2026-05", "2026-06", "2026-07", "2026-08"]
    assert await house.audit() == []


async def test_what_cannot_be_closed_is_refused(house: House) -> None:
    house.clock.now = START
    with pytest.raises(MonthEmpty):
        await close(house, date(2026, 4, 1))
    await house.submit(await house.someone())
    house.clock.now = BEFORE_JUNE
    with pytest.raises(MonthNotOver):
        await close(house, MAY)
    with pytest.raises(MonthNotOver):
        await close(house, date(9998, 12, 1))
    with pytest.raises(MonthEmpty):
        await close(house, date(2026, 4, 1))
    house.clock.now = BEFORE_JUNE + timedelta(seconds=1)
    await close(house, MAY)
    for month in (MAY, date(2026, 4, 1), date(1970, 1, 1)):
        with pytest.raises(MonthClosed):
            await close(house, month)
    assert await house.value("SELECT count(*) FROM closed_months") == 1


async def test_a_slow_clock_books_in_the_open_month(house: House, settings: Settings) -> None:
    """Its own date stays beside: `created_at` and the quotas' windows are by the clock."""
    slow = House(settings, clock=Clock(BEFORE_JUNE))
    who = await house.someone()
    held = await slow.submit(who)
    house.clock.now = BEFORE_JUNE + timedelta(seconds=2)
    (may,) = (await close(house, MAY)).closed
    assert await slow.end(held)
    late = await slow.submit(who)
    first = datetime(2026, 6, 1, tzinfo=UTC)
    assert [await booked_at(house, *one) for one in ((held, "settle"), (late, "hold"))] == [first, first]
    assert (await house.job(late))["created_at"] == BEFORE_JUNE
    assert await sums(house, MAY) == totals(may)
    assert (await sums(house, JUNE))["jobs"] == 1
    assert await house.audit() == []
    await slow.close()


async def test_only_the_newest_closed_month_is_reopened_and_can_be_closed_again(house: House) -> None:
    job_id = await house.submit(await house.someone())
    await house.end(job_id)
    house.clock.now = datetime(2026, 7, 2, tzinfo=UTC)
    with pytest.raises(MonthNotClosed):
        await reopen(house, MAY)
    await close(house, JUNE)
    with pytest.raises(LaterMonthClosed) as refused:
        await reopen(house, MAY)
    assert refused.value.members == {"newest": "2026-06"}
    assert (await reopen(house, JUNE)).reopen_note == "a bill came late"
    with pytest.raises(MonthNotClosed):
        await reopen(house, JUNE)
    assert await house.value("SELECT open_since FROM books") == datetime(2026, 6, 1, tzinfo=UTC)
    assert await house.audit() == []
    await reopen(house, MAY)
    assert await house.value("SELECT open_since::text FROM books") == "-infinity"
    await adjust(house, job_id, "0.10", month=MAY)
    assert [one.month for one in (await close(house, JUNE)).closed] == [MAY, JUNE]
    assert (await sums(house, MAY))["charged_usd"] == Decimal("1.50")
    assert await house.value("SELECT count(*) FROM closed_months") == 4
    assert await house.audit() == []


async def test_an_adjustment_dated_into_a_closed_month_is_refused_until_that_is_reopened(house: House) -> None:
    job_id = await house.submit(await house.someone())
    with pytest.raises(JobNotEnded):
        await adjust(house, job_id, "-0.40")
    await house.end(job_id)
    house.clock.now = IN_JUNE
    (may,) = (await close(house, MAY)).closed
    with pytest.raises(MonthClosed):
        await adjust(house, job_id, "-0.40", month=MAY)
    assert (await house.job(job_id))["charged_usd"] == FIVE
    for month in (date(2026, 4, 1), JULY):
        with pytest.raises(InvalidInput):
            await adjust(house, job_id, "-0.40", month=month)
    await adjust(house, job_id, "-0.30", month=JUNE)
    assert await sums(house, MAY) == totals(may)
    await reopen(house, MAY)
    await adjust(house, job_id, "-0.40", month=MAY)
    assert (await sums(house, MAY))["charged_usd"] == Decimal("1.00")
    last = await house.value("SELECT max(booked_at) FROM entries WHERE booked_at < '2026-06-01Z'")
    assert last == datetime(2026, 5, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert await house.audit() == []


async def test_an_adjustment_counts_in_the_windows_that_the_job_was_held_in(house: House) -> None:
    quota = await house.quota("14.00")
    job_id = await house.submit(await house.someone())
    await house.end(job_id)
    house.clock.now = IN_JUNE
    version = (await house.job(job_id))["version"]
    await asyncio.gather(*(adjust(house, job_id, "-0.40", key="once") for _ in range(5)))
    job = await house.job(job_id)
    assert (job["charged_usd"], job["version"]) == (Decimal("1.00"), version + 1)
    assert await house.usage(quota) == [(Decimal("1.00"), 0)]
    with pytest.raises(InvalidInput):
        await adjust(house, job_id, "-1.01")
    assert await house.audit() == []


async def test_sums_that_disagree_keep_a_month_open(house: House) -> None:
    """An older release beside this one sums no counts."""
    job_id = await house.submit(await house.someone())
    await house.end(job_id)
    await house.execute("UPDATE spend_monthly SET jobs = 0, succeeded = 0")
    house.clock.now = IN_JUNE
    with pytest.raises(SumsDisagree) as refused:
        await close(house, MAY)
    assert refused.value.members == {"months": ["2026-05"]}
    await rebuild_spend(house.db, zone=house.wiring.settings.zone)
    assert (await close(house, MAY)).closed[0].jobs == 1


PLANTED = {
    "another total": (
        "UPDATE closed_months SET charged_usd = 9",
        "closed month 2026-05: found 9.00 USD, 5.00 s, 2 jobs, 1 succeeded, 0 failed, 0 canceled, expected 1.40 USD,",
    ),
    "another count": (
        "UPDATE closed_months SET jobs = 1",
        "closed month 2026-05: found 1.40 USD, 5.00 s, 1 jobs, 1 succeeded, 0 failed, 0 canceled, expected 1.40 USD",
    ),
    "an entry that came late": (
        """INSERT INTO entries SELECT gen_random_uuid(), job_id, 'adjustment', 'late', 1, 0, price_id, fal_units, NULL,
        mark, note, by, user_id, team_id, key_id, model, end_user, tags, booked_at FROM entries
        WHERE kind = 'settle'""",
        "closed month 2026-05: found 1.40 USD, 5.00 s, 2 jobs, 1 succeeded, 0 failed, 0 canceled, expected 2.40 USD",
    ),
    "more was held than there is": (
        "UPDATE closed_months SET held_usd = 2.80, held_jobs = 2",
        "closed month 2026-05, still held: found 2.80 USD of 2 jobs, expected from 1.40 USD of 1 jobs to 1.40 USD of 1",
    ),
    "books open too early": (
        "UPDATE books SET open_since = '2026-05-31Z'",
        "books open since: found 2026-05-31 00:00:00+00, expected 2026-06-01 00:00:00+00",
    ),
}


async def test_the_audit_finds_what_does_not_fit_a_closed_month(house: House) -> None:
    who = await house.someone()
    await house.end(await house.submit(who))
    await house.submit(who)
    house.clock.now = IN_JUNE
    await close(house, MAY)
    assert await house.audit() == []
    for name, (tamper, sentence) in PLANTED.items():
        async with house.db.begin_plain() as plain:
            await plain.execute("SET LOCAL session_replication_role = replica")
            await plain.execute("CREATE TABLE kept_entries AS TABLE entries; CREATE TABLE kept AS TABLE closed_months")
            await plain.execute(tamper)
        found = [str(difference) for difference in await house.audit()]
        assert any(each.startswith(sentence) for each in found), (name, found)
        async with house.db.begin_plain() as plain:
            await plain.execute("SET LOCAL session_replication_role = replica")
            await plain.execute(
                "DELETE FROM entries; INSERT INTO entries TABLE kept_entries; DELETE FROM closed_months;"
                "INSERT INTO closed_months TABLE kept; DROP TABLE kept_entries, kept;"
                "UPDATE books SET open_since = '2026-06-01Z'"
            )
        assert await house.audit() == [], name

"""The charge of a job that has ended is corrected: once for each source, everywhere that money is counted."""

import asyncio
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest

from app.ids import new_id
from app.jobs.ends.adjust import Adjustment, JobNotEnded, adjust_job, lock_ended_job
from app.problems import NotFound

from .house import FIVE, House


async def adjust(house: House, job_id: UUID, usd: str, *, source: str = "a note", seconds: str = "0") -> Decimal:
    async with house.db.begin_plain() as plain:
        job = await lock_ended_job(plain, job_id)
        made = Adjustment(source=source, usd=Decimal(usd), seconds=Decimal(seconds), note="fal billed more", by="fin")
        return await adjust_job(plain, job, made, now=house.clock(), zone=house.wiring.settings.zone)


async def test_an_adjustment_is_counted_in_charge_windows_and_spend(house: House) -> None:
    quota = await house.quota(100)
    seconds = await house.quota(100, "seconds")
    who = await house.someone()
    job_id = await house.submit(who)
    assert await house.end(job_id)
    before = await house.job(job_id)
    assert await adjust(house, job_id, "1.40") == Decimal("2.80")
    assert await adjust(house, job_id, "-2.80", source="another note", seconds="-5") == 0
    after = await house.job(job_id)
    assert after["charged_usd"] == 0
    assert after["version"] == before["version"] + 2
    assert await house.usage(quota) == [(0, 0)]
    assert await house.usage(seconds) == [(0, 0)]
    rows = await house.rows("SELECT * FROM entries WHERE job_id = $1 AND kind = 'adjustment' ORDER BY id", job_id)
    assert [(row["amount_usd"], row["note"], row["by"]) for row in rows] == [
        (FIVE, "fal billed more", "fin"),
        (-2 * FIVE, "fal billed more", "fin"),
    ]
    assert await house.audit() == []


async def test_one_source_is_booked_once_by_ten_at_a_time(house: House) -> None:
    await house.quota(100)
    job_id = await house.submit(await house.someone())
    assert await house.end(job_id)
    done = await asyncio.gather(*(adjust(house, job_id, "1") for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(one, asyncpg.UniqueViolationError) for one in done) == 9
    assert (await house.job(job_id))["charged_usd"] == Decimal("2.40")
    assert await house.audit() == []


async def test_what_has_not_ended_is_not_adjusted(house: House) -> None:
    job_id = await house.submit(await house.someone())
    with pytest.raises(JobNotEnded):
        await adjust(house, job_id, "1")
    with pytest.raises(NotFound):
        await adjust(house, new_id(house.clock()), "1")
    assert await house.audit() == []

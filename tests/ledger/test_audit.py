"""The audit finds every difference that it claims to look for, and says which it is."""

import asyncio

import pytest

from .house import House, id_of

DIFFERENCES = {
    "a hold is missing": (
        "DELETE FROM entries WHERE kind = 'hold' AND job_id = $1",
        "{job} holds: found 0, expected 1",
    ),
    "there are two holds": (
        """INSERT INTO entries SELECT gen_random_uuid(), job_id, kind, 'twice', amount_usd, seconds, price_id,
        fal_units, resolves_id, mark, note, by, user_id, team_id, key_id, model, end_user, tags, booked_at FROM entries
        WHERE kind = 'hold' AND job_id = $1""",
        "{job} holds: found 2, expected 1",
    ),
    "a hold is not the quote": (
        "UPDATE entries SET amount_usd = 1.41 WHERE kind = 'hold' AND job_id = $1",
        "{job} hold: found 1.410000000, expected 1.400000000",
    ),
    "a hold has other seconds": (
        "UPDATE entries SET seconds = 6 WHERE kind = 'hold' AND job_id = $1",
        "{job} seconds of the hold: found 6.000000000, expected 5.000000000",
    ),
    "an ended job has no settle": (
        "DELETE FROM entries WHERE kind = 'settle' AND job_id = $1",
        "{job} settles and voids: found 0, expected 1",
    ),
    "a job that has not ended is settled": (
        "UPDATE jobs SET finished_at = NULL, status = 'queued', charged_usd = NULL WHERE id = $1",
        "{job} settles and voids: found 1, expected 0",
    ),
    "held_usd": ("UPDATE jobs SET held_usd = 0.01 WHERE id = $1", "{job} held_usd: found 0.010000000, expected 0"),
    "charged_usd": (
        "UPDATE jobs SET charged_usd = 1.39 WHERE id = $1",
        "{job} charged_usd: found 1.390000000, expected 1.400000000",
    ),
    "a settle is changed": (
        "UPDATE entries SET amount_usd = 9 WHERE kind = 'settle' AND job_id = $1",
        "{job} charged_usd: found 1.400000000, expected 9.000000000",
    ),
    "a job is gone": (
        "DELETE FROM jobs WHERE id = $1",
        "{job} entries of a job that is not there: found 2, expected 0",
    ),
    "used": (
        "UPDATE quota_usage SET used = used + 1 WHERE $1::uuid IS NOT NULL",
        "usd day from 2026-05-04 00:00:00+00: found used 2.400000000 held 1.400000000, expected used 1.400000000",
    ),
    "held": (
        "UPDATE quota_usage SET held = 0 WHERE $1::uuid IS NOT NULL",
        "quota organization usd day from 2026-05-04 00:00:00+00: found used 1.400000000 held 0.000000000, expected",
    ),
    "a job forgot its window": (
        "UPDATE jobs SET quota_usage_ids = '{}' WHERE id = $1",
        "expected used 0 held 1.400000000",
    ),
    "a window is gone": (
        "DELETE FROM quota_usage WHERE $1::uuid IS NOT NULL",
        "remembered by a job: found no row, expected a row",
    ),
    "spend of a day": (
        "UPDATE spend_daily SET charged_usd = 1 WHERE $1::uuid IS NOT NULL",
        "kling-2.1-master: found 1.00 USD, 5.00 s, 1 jobs, 1 succeeded, 0 failed, 0 canceled, expected 1.40 USD",
    ),
    "seconds of a day": (
        "UPDATE spend_daily SET seconds = 4 WHERE $1::uuid IS NOT NULL",
        "kling-2.1-master: found 1.40 USD, 4.00 s, 1 jobs, 1 succeeded, 0 failed, 0 canceled, expected 1.40 USD, 5.00",
    ),
    "a day is gone": (
        "DELETE FROM spend_daily WHERE $1::uuid IS NOT NULL",
        "found 0.00 USD, 0.00 s, 0 jobs, 0 succeeded, 0 failed, 0 canceled, expected 1.40 USD, 5.00 s, 1 jobs, 1 suc",
    ),
    "jobs of a day": (
        "UPDATE spend_daily SET jobs = 2 WHERE $1::uuid IS NOT NULL",
        "found 1.40 USD, 5.00 s, 2 jobs, 1 succeeded, 0 failed, 0 canceled, expected 1.40 USD, 5.00 s, 1 jobs",
    ),
    "failures of a day": (
        "UPDATE spend_daily SET succeeded = 0, failed = 1 WHERE $1::uuid IS NOT NULL",
        "found 1.40 USD, 5.00 s, 1 jobs, 0 succeeded, 1 failed, 0 canceled, expected 1.40 USD, 5.00 s, 1 jobs, 1 suc",
    ),
    "spend of a month": (
        "UPDATE spend_monthly SET charged_usd = 1 WHERE $1::uuid IS NOT NULL",
        "spend_monthly 2026-05-01 ",
    ),
    "a day too many": (
        """INSERT INTO spend_daily SELECT day - 1, team_id, user_id, key_id, model, 1, 1 FROM spend_daily
        WHERE $1::uuid IS NOT NULL""",
        "spend_daily 2026-05-03 ",
    ),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
async def test_each_planted_difference_is_found_and_named(house: House, kind: str) -> None:
    tamper, sentence = DIFFERENCES[kind]
    await house.quota("14.00")
    who = await house.someone()
    job_id = await house.submit(who)
    await house.end(job_id)
    await house.submit(who)
    assert await house.audit() == []
    async with house.db.begin_plain() as plain:
        await plain.execute("SET LOCAL session_replication_role = replica")  # triggers and foreign keys are off
        await plain.execute(tamper, job_id)
    found = [str(difference) for difference in await house.audit()]
    assert any(sentence.format(job=id_of("job", job_id)) in each for each in found), found


async def test_the_audit_writes_nothing_and_sees_one_instant(house: House) -> None:
    """What commits while it reads is not half in it."""
    await house.quota("1000.00")
    who = await house.someone()
    for _ in range(30):
        await house.submit(who)
    job_ids = [row["id"] for row in await house.rows("SELECT id FROM jobs")]

    async def end_all() -> None:
        for job_id in job_ids:
            await house.end(job_id)

    ending = asyncio.create_task(end_all())
    while not ending.done():
        assert await house.audit() == []
    await ending
    assert await house.audit() == []

"""Money moves once: whoever comes second changes nothing, and what was written stays."""

import asyncio
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.accounts.callers import COMMAND_LINE, Caller
from app.db import Plain
from app.fal import Completed, Succeeded
from app.jobs.ends.cancel import JobEnded, cancel_job
from app.jobs.ends.ending import held_of
from app.jobs.ends.resolve import JobNotUnconfirmed, Resolution, resolve_job
from app.ledger.locks import EXCLUSIVE_LOCK, SHARED_LOCK
from app.ledger.settles import Extra, Held, book_extra, lock_windows
from app.settings import Settings

from .house import FIVE, House, Someone, in_transaction, units


def calling(who: Someone) -> Caller:
    return Caller(
        key_id=who.key_id,
        user_id=who.user_id,
        team_id=who.team_id,
        role="member",
        is_stale=False,
        key_name="key",
        user_name="user",
        team_name="team",
    )


async def held(house: House, job_id: UUID) -> Held:
    rows = await house.rows("SELECT *, tags::text AS tags FROM jobs WHERE id = $1", job_id)
    return held_of(rows[0])


async def book(house: House, job_id: UUID, extra: Extra) -> None:
    hold = await held(house, job_id)

    async def write(plain: Plain) -> None:
        await plain.execute(f"SELECT {SHARED_LOCK}")
        windows = await lock_windows(plain, set(hold.quota_usage_ids))
        await book_extra(plain, hold, extra, windows=windows, now=house.clock(), zone=house.wiring.settings.zone)
        await plain.execute("UPDATE jobs SET charged_usd = charged_usd + $2 WHERE id = $1", job_id, extra.usd)

    await in_transaction(house.db, write)


async def test_twenty_who_end_one_job_at_once_settle_it_once(house: House, settings: Settings) -> None:
    quota = await house.quota("14.00")
    replicas = [House(settings) for _ in range(4)]
    who = await house.someone()
    for turn in range(3):
        job_id = await house.submit(who)
        ends = [replica.end(job_id) for replica in replicas for _ in range(3)]
        ends += [replica.void(job_id) for replica in replicas for _ in range(2)]
        outcomes = await asyncio.gather(*ends)
        assert sum(outcomes) == 1
        assert len(await house.kinds(job_id)) == 2, turn
    assert (await house.usage(quota))[0][1] == 0
    assert await house.audit() == []
    for replica in replicas:
        await replica.close()


async def test_settle_cancel_and_resolve_at_once_end_a_job_once(house: House, settings: Settings) -> None:
    await house.quota("100.00")
    other = House(settings)
    who = await house.someone()
    for _ in range(5):
        job_id = await house.submit(who)
        (job,) = await house.claim()
        assert await house.moves.unconfirm(job, "unknown", was=["submitting"])
        resolution = Resolution(outcome="charge", note="seen on the bill")

        async def settle(at: House, job_id: UUID = job_id, attempt_id: UUID = job.attempt_id) -> bool:
            return await at.end(job_id, was=("unconfirmed",), attempt_id=attempt_id)

        acts = [
            *(settle(at) for at in (house, other) for _ in range(3)),
            *(resolve_job(at.rooms, COMMAND_LINE, job_id, resolution) for at in (house, other) for _ in range(4)),
            *(cancel_job(at.rooms, calling(who), job_id) for at in (house, other) for _ in range(3)),
        ]
        outcomes = await asyncio.gather(*acts, return_exceptions=True)
        unexpected = [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, JobEnded)]
        assert all(isinstance(one, JobNotUnconfirmed) for one in unexpected), unexpected
        assert await house.kinds(job_id) == ["hold", "settle"]
        assert (await house.job(job_id))["charged_usd"] == FIVE
    assert await house.audit() == []
    await other.close()


@pytest.mark.parametrize("metric", ["usd", "in_flight"])
async def test_a_quota_made_while_an_ending_waits_is_given_back_too(house: House, metric: str) -> None:
    """The ending reads which windows a job remembers only when no quota can be filled any more."""
    who = await house.someone()
    job_id = await house.submit(who)
    quota = await house.quota(100, metric, "day" if metric == "usd" else None)
    async with house.db.begin_plain() as plain:
        await plain.execute(f"SELECT {EXCLUSIVE_LOCK}")
        ending = asyncio.create_task(house.end(job_id))
        await waiting_for_the_lock(house, 1)
        usage_id = uuid4()
        await plain.execute(
            "INSERT INTO quota_usage (id, quota_id, subject, starts_at, ends_at, held) VALUES ($1, $2, '', "
            "CASE WHEN $3 THEN 'epoch' ELSE '2026-05-04Z'::timestamptz END, "
            "CASE WHEN $3 THEN NULL ELSE '2026-05-05Z'::timestamptz END, CASE WHEN $3 THEN 1 ELSE 1.40 END)",
            usage_id,
            quota,
            metric == "in_flight",
        )
        await plain.execute("UPDATE jobs SET quota_usage_ids = ARRAY[$2::uuid] WHERE id = $1", job_id, usage_id)
    assert await ending
    assert await house.audit() == []


async def waiting_for_the_lock(house: House, count: int) -> None:
    for _ in range(500):
        waiting = await house.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        if waiting >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


async def stray(house: House, who: Someone) -> UUID:
    """A job that is back in the queue while fal has a request of it."""
    job_id = await house.submit(who)
    (job,) = await house.claim()
    assert await house.moves.put_back(job, "not_sent", was=["submitting"], after_seconds=0)
    assert not await house.moves.accepted(job, house.fal.accepts().ref, position=None)
    house.fal.status_outcome = Completed(None, None)
    house.fal.result_outcome = Succeeded({}, units("5"))
    return job_id


async def test_a_stray_is_booked_as_overage_once_and_counts_everywhere(house: House) -> None:
    quota = await house.quota("100.00")
    seconds = await house.quota(1000, "seconds", "month")
    job_id = await stray(house, await house.someone())
    assert await house.follow_strays() == 1
    await house.make_due()
    assert await house.follow_strays() == 0
    assert await house.kinds(job_id) == ["hold", "overage"]
    assert await house.usage(quota) == [(FIVE, FIVE)]
    assert await house.usage(seconds) == [(5, 5)]
    assert await house.end(job_id)
    assert (await house.job(job_id))["charged_usd"] == 2 * FIVE
    assert await house.value("SELECT sum(charged_usd) FROM spend_daily") == 2 * FIVE
    assert await house.audit() == []


async def test_a_quota_made_while_an_overage_waits_counts_it(house: House) -> None:
    job_id = await stray(house, await house.someone())
    quota = await house.quota("100.00")
    async with house.db.begin_plain() as plain:
        await plain.execute(f"SELECT {EXCLUSIVE_LOCK}")
        following = asyncio.create_task(house.follow_strays())
        await waiting_for_the_lock(house, 1)
        usage_id = uuid4()
        await plain.execute(
            "INSERT INTO quota_usage (id, quota_id, subject, starts_at, ends_at, held) "
            "VALUES ($1, $2, '', '2026-05-04Z', '2026-05-05Z', 1.40)",
            usage_id,
            quota,
        )
        await plain.execute("UPDATE jobs SET quota_usage_ids = ARRAY[$2::uuid] WHERE id = $1", job_id, usage_id)
    await following
    assert await house.usage(quota) == [(FIVE, FIVE)]
    assert await house.audit() == []


async def test_an_overage_and_an_end_at_once_are_both_charged(house: House, settings: Settings) -> None:
    """No quota here: no window's lock brings the two into an order, so the job's row must."""
    other = House(settings)
    who = await house.someone()
    for _ in range(15):
        job_id = await stray(house, who)
        other.fal.status_outcome, other.fal.result_outcome = house.fal.status_outcome, house.fal.result_outcome
        await asyncio.gather(house.end(job_id), other.follow_strays())
        assert (await house.job(job_id))["charged_usd"] == 2 * FIVE
    assert await house.audit() == []
    await other.close()


async def test_an_adjustment_is_booked_once_by_its_source(house: House) -> None:
    quota = await house.quota("100.00")
    job_id = await house.submit(await house.someone())
    assert await house.end(job_id)
    extra = Extra(
        kind="adjustment", source="bill-1", usd=Decimal("-0.40"), seconds=Decimal(0), note="fal's bill", by="finance"
    )
    await book(house, job_id, extra)
    with pytest.raises(asyncpg.UniqueViolationError):
        await book(house, job_id, extra)
    assert await house.usage(quota) == [(Decimal("1.00"), 0)]
    assert (await house.job(job_id))["charged_usd"] == Decimal("1.00")
    assert await house.value("SELECT sum(charged_usd) FROM spend_daily") == Decimal("1.00")
    assert await house.audit() == []


async def test_an_adjustment_of_seconds_alone_is_in_the_reports_too(house: House) -> None:
    job_id = await house.submit(await house.someone())
    assert await house.end(job_id)
    await book(
        house, job_id, Extra(kind="adjustment", source="bill-2", usd=Decimal(0), seconds=Decimal(2), note="longer")
    )
    assert await house.value("SELECT sum(seconds) FROM spend_daily") == 7
    assert await house.audit() == []


async def test_the_database_itself_refuses_a_second_end_of_a_hold(house: House) -> None:
    job_id = await house.submit(await house.someone())
    assert await house.end(job_id)
    copy = (
        "INSERT INTO entries SELECT gen_random_uuid(), job_id, $2, $3, amount_usd, seconds, price_id, fal_units, "
        "resolves_id, mark, note, by, user_id, team_id, key_id, model, end_user, tags, booked_at FROM entries "
        "WHERE job_id = $1 AND kind = $4"
    )
    for kind, source, like, constraint in (
        ("settle", "again", "settle", "entries_resolved_once_key"),
        ("void", "other", "settle", "entries_resolved_once_key"),
        ("hold", "job", "hold", "entries_job_id_kind_source_key"),
    ):
        with pytest.raises(asyncpg.UniqueViolationError) as refused:
            await house.execute(copy, job_id, kind, source, like)
        assert refused.value.constraint_name == constraint
    for kind, like in (("settle", "hold"), ("hold", "settle")):
        with pytest.raises(asyncpg.CheckViolationError):
            await house.execute(copy, job_id, kind, "x", like)


@pytest.mark.parametrize("table", ["entries", "audit_log"])
async def test_what_was_written_stays(house: House, table: str) -> None:
    await house.submit(await house.someone())
    column = "note" if table == "entries" else "actor"
    for statement in (
        f"UPDATE {table} SET {column} = 'x'",  # noqa: S608
        f"DELETE FROM {table}",  # noqa: S608
        f"TRUNCATE {table}",
        f"TRUNCATE {table} CASCADE",
        f"INSERT INTO {table} SELECT * FROM {table} ON CONFLICT (id) DO UPDATE SET {column} = 'x'",  # noqa: S608
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
            await house.execute(statement)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await house.execute("TRUNCATE jobs CASCADE")

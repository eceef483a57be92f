"""PAYLOAD_DAYS: what ended longer ago is forgotten, batch after batch, once."""

import asyncio
import json
from datetime import timedelta

import pytest

from app.ids import first_id
from app.jobs.forgetting import retention as forgetting
from app.jobs.forgetting.retention import Forgetting
from tests.jobs.forgotten import ago, ended
from tests.jobs.hand import Hand


@pytest.fixture
def hand(swept_hand: Hand) -> Hand:
    """One database for all of them: none leaves a job to the next."""
    return swept_hand


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "_OLD", forgetting._OLD.replace(f"FIRST {forgetting._BATCH} ", "FIRST 2 "))


async def forget_old(hand: Hand) -> list[int]:
    """Turns until there is nothing left; how many each found."""
    await hand.sql("UPDATE forgetting SET through = NULL")
    return await forget_on(hand)


async def forget_on(hand: Hand) -> list[int]:
    found = [await hand.rooms.forgetting._turn(1)]
    while found[-1]:
        found.append(await hand.rooms.forgetting._turn(1))
    return found


async def remembered(hand: Hand) -> set[str]:
    rows = await hand.sql("SELECT id FROM jobs WHERE payload_erased_at IS NULL AND input::text <> 'null'")
    return {f"job_{row['id'].hex}" for row in rows}


@pytest.mark.usefixtures("small_batches")
async def test_what_ended_longer_ago_is_erased_batch_after_batch_and_never_looked_at_again(hand: Hand) -> None:
    old = [await ended(hand, days_ago=40 - n) for n in range(3)]
    by_hand_before = await ended(hand, days_ago=36.5)
    assert await hand.forget(by_hand_before) == 204
    at_once = [await ended(hand, days_ago=36) for _ in range(3)]
    moment = ago(hand, 36)
    for job_id in at_once:
        await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", job_id[4:], moment)
    young, open_ = await ended(hand, days_ago=29), await hand.submit("still open")
    await hand.sql("UPDATE jobs SET created_at = $2 WHERE id = $1", open_[4:], ago(hand, 60))
    assert await forget_old(hand) == [2, 2, 3, 0], "those that ended together go together"
    assert await remembered(hand) == {young, open_}
    assert await forget_on(hand) == [0]
    await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", young[4:], ago(hand, 31))
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == {open_}
    assert {(await hand.job(job_id))["charged_usd"] for job_id in (*old, *at_once)} == {"0.00"}
    await hand.cancel(open_)


async def test_a_clock_that_runs_ahead_erases_nothing_early_and_one_that_went_back_leaves_nothing_out(
    hand: Hand,
) -> None:
    young = await ended(hand, days_ago=29)
    hand.clock.move(days=300)
    assert await forget_old(hand) == [0], "what is erased is old by the database's clock too"
    hand.clock.move(days=-300)
    await hand.sql("UPDATE forgetting SET through = $1", ago(hand, -10))
    assert await forget_on(hand) == [0]
    assert await remembered(hand) == {young}
    await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", young[4:], ago(hand, 30.00001))
    await hand.sql("UPDATE forgetting SET through = $1", ago(hand, 30.00002))
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == set()


async def test_what_ended_by_a_clock_that_was_behind_is_erased_too(hand: Hand) -> None:
    """Its `finished_at` lies before what had been gone through when it was written."""
    hand.clock.move(days=-40)
    await hand.sql("UPDATE forgetting SET through = now() - interval '31 days'")
    assert await forget_on(hand) == [0]
    late = await ended(hand, days_ago=0)
    assert await remembered(hand) == {late}
    hand.clock.move(days=40)
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == set()


async def test_two_replicas_erase_each_once(hand: Hand) -> None:
    jobs = [await ended(hand, days_ago=31) for _ in range(10)]
    await hand.sql("UPDATE forgetting SET through = NULL")
    wiring = hand.gateway.wiring
    both = [Forgetting(wiring, hand.rooms.fal_copies) for _ in range(2)]
    before = {job_id: (await hand.job(job_id))["version"] for job_id in jobs}
    await asyncio.gather(*(one._turn(1) for one in both))
    assert await remembered(hand) == set()
    assert {job_id: (await hand.job(job_id))["version"] for job_id in jobs} == {
        job_id: version + 1 for job_id, version in before.items()
    }


async def test_killed_before_the_commit_nothing_is_erased_and_the_next_one_does_it(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await ended(hand, days_ago=31)
    await hand.sql("UPDATE forgetting SET through = NULL")

    async def die(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as killed:
        killed.setattr(forgetting, "forget_jobs", die)
        with pytest.raises(asyncio.CancelledError):
            await hand.rooms.forgetting._turn(1)
    assert await remembered(hand) == {job_id}
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == set()


async def test_who_uploaded_which_file_is_forgotten_too(hand: Hand) -> None:
    row = await hand.row(await ended(hand, days_ago=0))
    for days in (31, 29):
        made_at = ago(hand, days)
        await hand.sql(
            "INSERT INTO files (id, user_id, team_id, key_id, name, content_type, url, created_at)"
            " VALUES ($1, $2, $3, $4, 'canary.png', 'image/png', 'https://fal.media/canary.png', $5)",
            first_id(made_at), row["user_id"], row["team_id"], row["key_id"], made_at,
        )  # fmt: skip
    await forget_old(hand)
    (kept,) = await hand.sql("DELETE FROM files RETURNING created_at")
    assert kept["created_at"] > ago(hand, 30)


async def test_an_index_finds_what_is_old_among_many(hand: Hand) -> None:
    """However many are erased already, and however many are young."""
    job_id = await ended(hand, days_ago=31)
    await hand.sql(
        "INSERT INTO jobs (id, status, model, endpoint, input, seconds, quoted_usd, held_usd, charged_usd, price_id,"
        " quota_usage_ids, user_id, team_id, key_id, created_at, queued_at, finished_at, payload_erased_at)"
        " SELECT gen_random_uuid(), 'failed', model, endpoint, '{}', seconds, 0, 0, 0, price_id, '{}', user_id,"
        " team_id, key_id, created_at, queued_at, finished_at + make_interval(secs => n), CASE WHEN n < 0 THEN now()"
        " END FROM jobs, generate_series(-10000, 10000) n WHERE id = $1 AND n <> 0",
        job_id[4:],
    )
    await hand.sql("ANALYZE jobs")
    (row,) = await hand.sql("SELECT finished_at FROM jobs WHERE id = $1", job_id[4:])
    through, moment = row["finished_at"] - timedelta(milliseconds=1), row["finished_at"] + timedelta(seconds=50)
    (told,) = await hand.sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {forgetting._OLD}", through, moment)
    (plan,) = (each["Plan"] for each in told["QUERY PLAN"])
    assert "jobs_finished_at_idx" in json.dumps(plan)
    assert plan["Actual Rows"] == 50
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100
    async with hand.gateway.wiring.db.begin_plain() as plain:
        await plain.execute("SET LOCAL session_replication_role = replica; DELETE FROM jobs WHERE status = 'failed'")

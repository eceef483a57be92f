"""What callers are told of the queue under FAL_CONCURRENCY: their job's place in it, and when it may start."""

import random
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.db import Database, Lock
from app.jobs.at_fal.release import Line, choose, pick
from app.settings import Settings
from tests.jobs.hand import Hand, by_hand
from tests.jobs.slots import ask, end, limited

# Rows without holds: nothing here looks at money.
_FILL = """
INSERT INTO jobs (id, status, model, endpoint, input, seconds, quoted_usd, held_usd, price_id, quota_usage_ids, user_id,
                  team_id, key_id, next_check_at, created_at, queued_at, submitted_at, finished_at, charged_usd)
SELECT id, status, $5, 'e', '{}', 5, 1, 1, id, '{}', user_id, team_id, id, now(), now(), now(), $6::timestamptz,
       $7::timestamptz, CASE WHEN status = 'succeeded' THEN 1 END
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[]) AS j (id, status, user_id, team_id)
"""


MODEL = "kling-2.1-master"


async def fill(
    db: Database,
    rows: list[tuple[str, UUID, UUID]],
    *,
    submitted_at: datetime | None = None,
    finished_at: datetime | None = None,
) -> list[UUID]:
    """Jobs of this status, user and team, each younger than the one before."""
    ids = sorted(uuid4() for _ in rows)
    columns = [list(column) for column in zip(*rows, strict=True)]
    async with db.plain() as plain:
        await plain.execute(_FILL, ids, *columns, MODEL, submitted_at, finished_at)
    return ids


async def places(db: Database) -> list[tuple[int, UUID]]:
    async with db.plain() as plain:
        rows = await plain.fetch("SELECT queue_position, id FROM jobs WHERE status = 'queued' ORDER BY queue_position")
    return [(row["queue_position"], row["id"]) for row in rows]


@pytest.mark.parametrize("seed", range(3))
async def test_the_places_written_are_the_order_in_which_jobs_would_be_released(database_url: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    async with limited(database_url, 2) as hand:
        db = hand.gateway.wiring.db
        owners = [(uuid4(), team) for team in [uuid4() for _ in range(4)] for _ in range(chance.randint(1, 4))]
        statuses = ["queued"] * 6 + ["submitting", "submitted", "running", "unconfirmed"]
        of_jobs = [(chance.choice(statuses), *chance.choice(owners)) for _ in range(120)]
        ids = await fill(db, of_jobs)
        turns = {one: n + 1 for n, owner in enumerate(owners) for one in owner if chance.random() < 0.6}
        lines = []
        for user_id, team_id in owners:
            mine = [
                (status, job_id)
                for job_id, (status, *owner) in zip(ids, of_jobs, strict=True)
                if owner == [user_id, team_id]
            ]
            lines.append(
                Line(
                    team_id=team_id,
                    user_id=user_id,
                    in_flight=sum(status in {"submitting", "submitted", "running"} for status, _ in mine),
                    team_turn=turns.get(team_id, 0),
                    user_turn=turns.get(user_id, 0),
                    waiting=[job_id for status, job_id in mine if status == "queued"],
                )
            )
        expected = pick(lines, 1000)
        async with db.begin_plain() as plain:
            await plain.executemany("INSERT INTO turns VALUES ($1, to_timestamp($2::int))", list(turns.items()))
            released = await choose(plain, 30, concurrency=1000)
        assert released == expected[:30]
        await hand.rooms.standing.write_places(2)
        assert await places(db) == list(enumerate(expected))
        await hand.sql("DELETE FROM jobs")


async def test_a_job_shows_its_place_while_it_is_queued_and_fals_afterwards(two_slots: Hand) -> None:
    jobs = await ask(two_slots, two_slots.person, 5)
    assert (await two_slots.job(jobs[0]))["queue_position"] is None  # not yet
    await two_slots.send()
    await two_slots.rooms.standing._turn(1)
    shown = [await two_slots.job(job_id) for job_id in jobs]
    assert [job["queue_position"] for job in shown] == [0, 0, 0, 1, 2]  # of the first two, fal's own
    assert [job["version"] for job in shown[2:]] == [2, 2, 2]
    assert [job["estimated_start_at"] for job in shown] == [None] * 5  # nothing is known of how long jobs take
    await end(two_slots, jobs[0])
    await two_slots.cancel(jobs[3])
    await two_slots.send()
    two_slots.rooms.standing._not_before = 0.0
    await two_slots.rooms.standing._turn(1)
    shown = [await two_slots.job(job_id) for job_id in jobs]
    assert [job["queue_position"] for job in shown] == [None, None, 0, None, 0]
    assert shown[4]["version"] == 3


async def test_a_stream_tells_of_a_new_place(two_slots: Hand) -> None:
    jobs = await ask(two_slots, two_slots.person, 3)
    async with two_slots.rooms.hub.watching(UUID(jobs[2][4:])) as news:
        await two_slots.rooms.standing._turn(1)
        assert news.is_set()


async def test_an_estimate_goes_by_what_recent_jobs_took_and_how_long_those_at_fal_have_been_there(
    database_url: str,
) -> None:
    async with limited(database_url, 3) as hand:
        db, standing, now = hand.gateway.wiring.db, hand.rooms.standing, hand.clock()
        me = (uuid4(), uuid4())
        await fill(db, [("succeeded", *me)] * 60, submitted_at=now - timedelta(seconds=100), finished_at=now)
        await fill(
            db, [("succeeded", *me)], submitted_at=now - timedelta(hours=9), finished_at=now - timedelta(hours=8)
        )
        await fill(db, [("running", *me)], submitted_at=now - timedelta(seconds=40))
        await fill(db, [("running", *me)], submitted_at=now - timedelta(seconds=300))  # late: any moment now
        await fill(db, [("queued", *me)] * 8)
        await standing.write_places(3)
        rows = await hand.sql(
            "SELECT estimated_start_at AS at FROM jobs WHERE status = 'queued' ORDER BY queue_position"
        )
        waits = [(row["at"] - now).total_seconds() for row in rows]
        assert waits == pytest.approx([0, 0, 60, 100, 100, 160, 200, 200], abs=3)
        await hand.sql("UPDATE upstream SET degraded_since = now()")
        await standing.write_places(3)  # while fal takes no jobs, nobody knows
        assert [row["estimated_start_at"] for row in await hand.sql("SELECT * FROM jobs")] == [None] * 71
        await hand.sql("DELETE FROM jobs")


async def test_an_estimate_is_forgotten_when_the_job_goes_or_ends(two_slots: Hand) -> None:
    now = two_slots.clock()
    old = await fill(
        two_slots.gateway.wiring.db,
        [("succeeded", uuid4(), uuid4())],
        submitted_at=now - timedelta(seconds=100),
        finished_at=now,
    )
    jobs = await ask(two_slots, two_slots.person, 3)
    await two_slots.rooms.standing._turn(1)
    shown = [await two_slots.job(job_id) for job_id in jobs]
    assert all(datetime.fromisoformat(job["estimated_start_at"]) >= now - timedelta(seconds=1) for job in shown)
    await two_slots.send()
    await two_slots.cancel(jobs[2])
    assert [(await two_slots.job(job_id))["estimated_start_at"] for job_id in jobs] == [None] * 3
    await two_slots.sql("DELETE FROM jobs WHERE id = ANY($1)", old)


async def test_far_places_are_not_written_again_for_each_job_that_goes(two_slots: Hand) -> None:
    db, standing, me = two_slots.gateway.wiring.db, two_slots.rooms.standing, (uuid4(), uuid4())
    ids = await fill(db, [("queued", *me)] * 400)
    assert len(await standing.write_places(2)) == 400
    assert await standing.write_places(2) == []
    await two_slots.sql("UPDATE jobs SET status = 'running', queue_position = NULL WHERE id = $1", ids[0])
    assert sorted(await standing.write_places(2)) == ids[1:21]
    for gone in ids[1:40]:
        await two_slots.sql("UPDATE jobs SET status = 'running', queue_position = NULL WHERE id = $1", gone)
        await standing.write_places(2)
    told = {job_id: position for position, job_id in await places(db)}
    assert sorted(told) == ids[40:]
    for position, job_id in enumerate(ids[40:]):
        assert 0 <= told[job_id] - position <= position / 20
    await two_slots.sql("DELETE FROM jobs")


async def test_one_replica_at_a_time_writes_and_only_while_something_waits(two_slots: Hand) -> None:
    standing, db = two_slots.rooms.standing, two_slots.gateway.wiring.db
    assert await standing.write_places(2) == []
    await ask(two_slots, two_slots.person, 3)
    async with db.begin_plain(first=f"SELECT pg_advisory_xact_lock({Lock.STANDING})"):
        assert await standing.write_places(2) == []
    assert len(await standing.write_places(2)) == 3


async def test_places_are_forgotten_when_there_is_no_limit_any_more(settings: Settings, database_url: str) -> None:
    async with limited(database_url, 1) as hand:
        jobs = await ask(hand, hand.person, 3)
        await hand.rooms.standing._turn(1)
        async with by_hand(settings, shared=True) as unlimited:
            await unlimited.rooms.standing._turn(1)
        shown = [await hand.job(job_id) for job_id in jobs]
        assert [job["queue_position"] for job in shown] == [None] * 3

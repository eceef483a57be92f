"""The breaker: what leaves for fal within an hour stays below its limits, whoever sends it; the rest waits in order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from uuid import UUID

import pytest

from app.db import Database, Plain
from app.fal import NotSent
from app.jobs.at_fal.breaker import Breaker, Limits
from app.jobs.at_fal.claims import claim_queued
from app.wiring import utc_now
from tests.conftest import settings_for
from tests.jobs.hand import Hand, by_hand
from tests.jobs.slots import ask, in_flight

HOUR = {"minutes": 61}


@asynccontextmanager
async def breaking(database_url: str, **limits: str) -> AsyncIterator[Hand]:
    """A gateway turned by hand with these limits; its person sees the jobs of all."""
    async with by_hand(settings_for(database_url, **limits)) as hand:
        hand.person = await hand.gateway.make_person("admin")
        yield hand


async def figures(hand: Hand) -> tuple[int, int]:
    """Whether the breaker is open, and how many users are paused."""
    lines = (await hand.gateway.client.get("/metrics")).text.splitlines()
    told = dict(line.split(" ") for line in lines if line.startswith("falgate_breaker_"))
    return int(told["falgate_breaker_open"]), int(told["falgate_breaker_users_paused"])


async def test_what_exceeds_the_limit_waits_in_order_until_the_hour_has_moved_on(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with breaking(database_url, breaker_usd_per_hour="4.30") as hand:
        assert await figures(hand) == (0, 0)
        other = await hand.gateway.make_person()
        jobs = await ask(hand, hand.person, 3) + await ask(hand, other, 2)
        for _ in range(3):
            await hand.send()
        sent = await in_flight(hand)
        assert len(sent) == 3
        assert {await hand.status(job_id) for job_id in set(jobs) - set(sent)} == {"queued"}
        assert await figures(hand) == (1, 0)
        assert [record.message for record in caplog.records if "tripped" in record.message] == [
            "the breaker has tripped: 4.30 USD an hour are being sent to fal (BREAKER_USD_PER_HOUR); jobs wait"
        ]
        assert (await hand.gateway.client.get("/health/ready")).status_code == 200
        await hand.age(sent[0], minutes=59)
        await hand.send()
        assert await in_flight(hand) == sent
        await hand.age(sent[0], minutes=2)
        await hand.send()
        assert len(await in_flight(hand)) == 4
        for job_id in sent:
            await hand.age(job_id, **HOUR)
        await hand.send()
        assert await in_flight(hand) == jobs
        await hand.sql("UPDATE upstream SET breaker_at = breaker_at - interval '2 minutes'")
        assert await figures(hand) == (0, 0)


async def test_a_user_at_its_limit_holds_up_nobody_else_however_much_it_has_waiting(database_url: str) -> None:
    async with breaking(database_url, breaker_user_usd_per_hour="2.80") as hand:
        hog = await hand.gateway.make_person()
        of_hog = await ask(hand, hog, 70)  # more than a claim takes
        await hand.send()
        assert await in_flight(hand) == of_hog[:2]
        of_other = await ask(hand, hand.person, 2)
        await hand.send()
        assert await in_flight(hand) == of_hog[:2] + of_other
        assert await figures(hand) == (0, 1)
        moved = await hand.gateway.make_team()
        await hand.gateway.admin("PATCH", f"/v1/users/{hog.user_id}", team_id=moved)
        await ask(hand, hog, 1)
        await hand.send()
        assert await in_flight(hand) == of_hog[:2] + of_other  # one limit, whichever team its jobs are of


@pytest.mark.parametrize("limit", ["breaker_usd_per_hour", "breaker_user_usd_per_hour"])
async def test_of_what_is_held_back_for_an_hour_only_the_next_is_looked_at_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    looked_at: list[int] = []
    read_quotes = Breaker.read_quotes

    async def watched(breaker: Breaker, plain: Plain, waiting: Sequence[UUID]) -> None:
        looked_at.append(len(waiting))
        await read_quotes(breaker, plain, waiting)

    monkeypatch.setattr(Breaker, "read_quotes", watched)
    async with breaking(database_url, **{limit: "4.00"}) as hand:
        jobs = await ask(hand, hand.person, 20)
        await hand.send()
        assert await in_flight(hand) == jobs[:2]
        await hand.send()
        await hand.sql("UPDATE jobs SET quoted_usd = 2 WHERE id = ANY($1)", [job_id[4:] for job_id in jobs[:2]])
        await hand.send()
        assert await in_flight(hand) == jobs[:2]
        assert await figures(hand) == ((1, 0) if limit == "breaker_usd_per_hour" else (0, 1))
        await hand.sql("UPDATE jobs SET quoted_usd = 1.40")
    assert looked_at == [20, 18, 1]


@pytest.mark.parametrize("limit", ["breaker_usd_per_hour", "breaker_user_usd_per_hour"])
async def test_a_job_dearer_than_the_limit_goes_alone(database_url: str, limit: str) -> None:
    async with breaking(database_url, **{limit: "1.50"}) as hand:
        cheap = await hand.submit()
        dear = await hand.submit(duration="10")
        later = await hand.submit()
        await hand.send()
        assert await in_flight(hand) == [cheap]
        await hand.age(cheap, **HOUR)
        await hand.send()
        assert await in_flight(hand) == [cheap, dear]
        await hand.send()
        assert await in_flight(hand) == [cheap, dear]
        await hand.age(dear, **HOUR)
        await hand.send()
        assert await in_flight(hand) == [cheap, dear, later]


async def test_no_cheaper_job_is_let_past_a_dear_one_that_waits_for_its_turn(database_url: str) -> None:
    async with breaking(database_url, breaker_usd_per_hour="3.00") as hand:
        first, dear, cheap = await hand.submit(), await hand.submit(duration="10"), await hand.submit()
        await hand.send()
        assert await in_flight(hand) == [first]  # there is room for `cheap`
        await hand.age(first, **HOUR)
        await hand.send()
        assert await in_flight(hand) == [first, dear]
        assert await hand.status(cheap) == "queued"


async def test_what_never_left_does_not_count(database_url: str) -> None:
    async with breaking(database_url, breaker_usd_per_hour="1.40") as hand:
        job_id = await hand.submit()
        for _ in range(2):
            hand.fal.answer("submit", NotSent("ConnectError"))
            await hand.send()
            assert await hand.status(job_id) == "queued"
        await hand.sql("UPDATE upstream SET degraded_since = NULL, reason = NULL, failures = 0, probe_after = NULL")
        await hand.rooms.upstream.look()
        await hand.send()
        assert await in_flight(hand) == [job_id]
        later = await hand.submit()
        await hand.send()
        assert await in_flight(hand) == [job_id]
        # there was evidence that fal never had it (`evidence`)
        await hand.sql("UPDATE attempts SET outcome = 'absent' WHERE outcome = 'accepted'")
        await hand.send()
        assert await in_flight(hand) == [job_id, later]
        await hand.sql("UPDATE attempts SET outcome = 'accepted' WHERE outcome = 'absent'")


async def test_the_breaker_and_fals_slots_hold_together(database_url: str) -> None:
    async with breaking(database_url, breaker_usd_per_hour="2.80", fal_concurrency="1") as hand:
        jobs = await ask(hand, hand.person, 3)
        await hand.send()
        assert await in_flight(hand) == jobs[:1]
        assert await figures(hand) == (0, 0)


async def test_a_user_who_waits_for_a_slot_is_not_told_of_as_paused(database_url: str) -> None:
    async with breaking(database_url, breaker_user_usd_per_hour="2.80", fal_concurrency="3") as hand:
        jobs = await ask(hand, hand.person, 4)
        others = [(await ask(hand, await hand.gateway.make_person(), 1))[0] for _ in range(2)]
        await hand.send()
        assert await in_flight(hand) == sorted([jobs[0], *others])
        assert await figures(hand) == (0, 0)
        await hand.sql("UPDATE jobs SET status = 'unconfirmed' WHERE status = 'submitted'")  # which takes no slot
        await hand.send()
        assert await in_flight(hand) == jobs[1:2]
        assert await figures(hand) == (0, 1)


async def test_replicas_that_claim_at_once_stay_below_the_limits_together(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with breaking(database_url) as hand:
        people = [await hand.gateway.make_person() for _ in range(4)]
        for _ in range(6):
            for person in people:
                await hand.gateway.submit(person)
        replicas = [Database(database_url) for _ in range(3)]
        limits = Limits(Decimal("14.00"), Decimal("4.20"))

        async def claim(db: Database) -> int:
            claimed, _ = await claim_queued(
                db,
                2,
                lease_seconds=90,
                fal_key_id="the-key",
                most_bytes=10**9,
                start_seconds=3600,
                now=utc_now(),
                limits=limits,
            )
            return len(claimed)

        taken = sum([sum(await asyncio.gather(*(claim(db) for db in replicas * 3))) for _ in range(3)])
        for db in replicas:
            await db.close()
        assert taken == 10  # 14.00 in all: the fourth user's turn did not come
        of_users = await hand.sql(
            "SELECT sum(j.quoted_usd) AS usd FROM attempts a JOIN jobs j ON j.id = a.job_id GROUP BY j.user_id"
        )
        assert sum(row["usd"] for row in of_users) == Decimal("14.00")
        assert max(row["usd"] for row in of_users) <= Decimal("4.20")
        assert sum("the breaker has tripped:" in record.message for record in caplog.records) == 1

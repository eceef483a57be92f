"""A job past its deadline is cancelled at fal and followed to its end, whoever dies meanwhile."""

import asyncio
from typing import Any

import pytest

from app.accounts.last_used import LastUsed
from app.fal import AlreadyCompleted, CancelDone, CancelRequested, Completed, Gone, InProgress, Queued, Trouble
from app.jobs.rooms import Rooms
from app.settings import Settings
from tests.gateway import run_gateway
from tests.jobs.hand import FIVE, Hand, failed, rest, until
from tests.sandbox.running import Sandbox

DONE = Completed(None, None)
HOLD = ("hold", "1.40", None)
CANCELED = failed(499, type_="client_cancelled", canceled=True)


async def _late(hands: Hand, status: str = "running") -> str:
    job_id = await hands.at_fal(status)
    settings = hands.gateway.wiring.settings
    hands.clock.move(seconds=settings.start_seconds + settings.job_deadline_seconds + 1)
    return job_id


async def _outcome(hands: Hand, job_id: str) -> str:
    return str((await hands.attempts(job_id))[-1]["outcome"])


async def _end(hands: Hand, job_id: str, result: Any = None) -> dict[str, Any]:
    hands.fal.answer("status", DONE)
    if result is not None:
        hands.fal.answer("result", result)
    await hands.check()
    return await hands.job(job_id)


@pytest.mark.parametrize(
    ("status", "says", "taken"),
    [
        ("running", InProgress(), CancelRequested()),
        ("submitted", Queued(0), CancelDone()),
        ("running", Trouble("HTML", 502), CancelRequested()),
    ],
    ids=str,
)
async def test_a_late_job_is_cancelled_at_fal_once_and_fails_by_its_deadline(
    hands: Hand, status: str, says: object, taken: object
) -> None:
    job_id = await _late(hands, status)
    hands.fal.answer("cancel", taken)
    for _ in range(3):
        hands.fal.answer("status", says)
        await hands.check()
        assert await hands.status(job_id) == "unconfirmed"
    assert hands.fal.count("cancel") == 1
    assert await _outcome(hands, job_id) == "deadline"
    job = await _end(hands, job_id, CANCELED)
    assert (job["status"], job["charged_usd"], job["cancel_requested_at"]) == ("failed", "0.00", None)
    assert (job["error"]["code"], job["error"]["retryable"]) == ("deadline-exceeded", True)
    assert await hands.entries(job_id) == [HOLD, ("void", "1.40", "unstated")]


async def test_what_fal_billed_before_it_cancelled_a_late_job_is_charged(hands: Hand) -> None:
    job_id = await _late(hands)
    await hands.check()
    job = await _end(hands, job_id, failed(499, FIVE, type_="client_cancelled", canceled=True))
    assert (job["status"], job["error"]["code"], job["charged_usd"]) == ("failed", "deadline-exceeded", "1.40")


async def test_a_late_job_that_succeeded_all_the_same_is_charged(hands: Hand) -> None:
    job_id = await _late(hands)
    hands.fal.answer("cancel", AlreadyCompleted())
    await hands.check()
    job = await _end(hands, job_id)
    assert (job["status"], job["charged_usd"]) == ("succeeded", "1.40")


async def test_a_late_job_that_fails_by_itself_keeps_its_own_error(hands: Hand) -> None:
    job_id = await _late(hands)
    await hands.check()
    job = await _end(hands, job_id, failed(500, type_="internal_server_error"))
    assert (job["status"], job["error"]["code"]) == ("failed", "internal-server-error")


async def test_fal_is_asked_to_cancel_a_late_job_at_each_check_until_it_takes_it(hands: Hand) -> None:
    job_id = await _late(hands)
    hands.fal.answer("cancel", Trouble("reset"), Trouble("502", 502), CancelRequested())
    for asked in (1, 2, 3, 3, 3):
        await hands.check()
        assert hands.fal.count("cancel") == asked
        left = await hands.sql(
            "SELECT extract(epoch FROM next_check_at - now())::float8 AS s FROM jobs WHERE finished_at IS NULL"
        )
        assert left[0]["s"] > 55
    assert (await _end(hands, job_id, CANCELED))["status"] == "failed"


async def test_a_caller_who_asked_to_cancel_a_late_job_hears_that_it_is_canceled(hands: Hand) -> None:
    job_id = await _late(hands)
    assert await hands.cancel(job_id) == 202
    hands.fal.answer("cancel", Trouble("reset"))
    await hands.check()
    assert hands.fal.count("cancel") == 1, "one of the two asks, not both"
    await hands.check()
    assert await _outcome(hands, job_id) == "cancel_asked"
    assert (await _end(hands, job_id, CANCELED))["status"] == "canceled"


async def test_of_two_replicas_that_find_a_job_late_one_cancels_it(hands: Hand) -> None:
    job_id = await _late(hands)
    other = Rooms(hands.gateway.wiring, LastUsed())

    async def let_the_other_find_it_late_too() -> None:
        hands.fal.during.clear()
        await hands.sql("UPDATE jobs SET next_check_at = now() WHERE finished_at IS NULL")
        await other.tracker._turn(100)
        await rest(other.tracker.loop)

    hands.fal.during["status"] = let_the_other_find_it_late_too
    await hands.check()
    assert hands.fal.count("status") == 1 + 2
    assert hands.fal.count("cancel") == 1
    await _end(hands, job_id, CANCELED)


async def test_a_replica_killed_before_it_cancelled_leaves_that_to_the_next_check(hands: Hand) -> None:
    job_id = await _late(hands)
    hands.fal.during["cancel"] = lambda: asyncio.sleep(3600)
    await hands.begin_checking()
    await until(lambda: hands.fal.count("cancel") == 1)
    (task,) = hands.rooms.tracker.loop._working
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    hands.fal.during.clear()
    hands.rooms = Rooms(hands.gateway.wiring, LastUsed())
    assert await hands.status(job_id) == "unconfirmed"
    await hands.check()
    assert await _outcome(hands, job_id) == "deadline"
    assert (await _end(hands, job_id, CANCELED))["error"]["code"] == "deadline-exceeded"


async def test_a_replica_killed_before_it_noted_the_cancel_still_makes_it_our_own(hands: Hand) -> None:
    job_id = await _late(hands)
    await hands.check()
    await hands.sql("UPDATE attempts SET outcome = 'accepted' WHERE job_id = $1", job_id[4:])
    assert (await _end(hands, job_id, CANCELED))["error"]["code"] == "deadline-exceeded"


async def test_what_fal_does_not_know_is_not_cancelled(hands: Hand) -> None:
    job_id = await _late(hands)
    hands.fal.answer("status", Gone(404))
    await hands.check()
    assert await hands.status(job_id) == "unconfirmed"
    assert hands.fal.count("cancel") == 0
    await _end(hands, job_id, CANCELED)


async def test_a_job_in_time_that_somebody_cancelled_at_fal_is_canceled(hands: Hand) -> None:
    job_id = await hands.at_fal("running")
    assert (await _end(hands, job_id, CANCELED))["status"] == "canceled"


async def test_a_job_that_hangs_at_fal_is_cancelled_there_and_charged_as_its_books_say(
    at_sandbox: Settings, sandbox: Sandbox
) -> None:
    settings = at_sandbox.model_copy(update={"job_deadline_seconds": 1})
    async with run_gateway(settings) as gateway:
        ann = await gateway.make_person()
        job_id = (await gateway.submit(ann, "a watched boat [hang]")).json()["id"]
        for _ in range(300):
            job = await gateway.job(ann, job_id)
            if job["finished_at"] is not None:
                break
            async with gateway.wiring.db.plain() as plain:  # the next look at an unconfirmed job comes in a minute
                await plain.execute("UPDATE jobs SET next_check_at = now() WHERE status = 'unconfirmed'")
            await asyncio.sleep(0.1)
    assert (job["status"], job["error"]["code"], job["charged_usd"]) == ("failed", "deadline-exceeded", "0.00")
    (request,) = (each for each in sandbox.requests() if "watched" in each["input"]["prompt"])
    assert request["billable_units"] == "0"
    assert sandbox.http.get("/_sandbox/state").json()["calls"]["cancel"] == 1

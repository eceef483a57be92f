"""A caller's cancel is remembered whatever the status, and fal is asked until it answers."""

import asyncio

import pytest

from app.fal import (
    AlreadyCompleted,
    CancelDone,
    CancelRequested,
    Completed,
    Gone,
    NotSent,
    RefusedUs,
    Trouble,
    Unknown,
)
from tests.jobs.hand import START_DEADLINE, Hand, failed, rest, succeeded

DONE = Completed("Request was cancelled by the client", "client_cancelled")


@pytest.mark.parametrize("status", ["submitted", "running", "unconfirmed"])
async def test_what_is_at_fal_is_cancelled_there_and_ends_as_fal_says(hand: Hand, status: str) -> None:
    job_id = await hand.at_fal(status)
    assert await hand.cancel(job_id) == 202
    assert (await hand.job(job_id))["cancel_requested_at"] is not None
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", failed(499, type_="client_cancelled", canceled=True))
    await hand.check()
    job = await hand.job(job_id)
    assert (job["status"], job["error"]["code"], job["charged_usd"]) == ("canceled", "canceled", "0.00")
    assert await hand.cancel(job_id) == 200


async def test_a_cancel_while_queued_is_remembered_with_who_asked_for_it(hand: Hand) -> None:
    job_id = await hand.submit()
    assert await hand.cancel(job_id) == 200
    job = await hand.job(job_id)
    assert job["status"] == "canceled"
    assert job["cancel_requested_at"] == job["finished_at"] is not None
    void = await hand.sql("SELECT by FROM entries WHERE job_id = $1 AND kind = 'void'", job_id[4:])
    assert void == [{"by": f"{hand.person.user_id}/{hand.person.key_id}"}]


async def test_a_cancel_wants_its_check_now(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    await hand.sql("UPDATE jobs SET next_check_at = now() + interval '1 hour'")
    await hand.cancel(job_id)
    await hand.rooms.tracker._turn(1)
    await rest(hand.rooms.tracker.loop)
    assert hand.fal.count("cancel") == 1


async def test_cancelling_again_and_again_asks_fal_no_more_often(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    calls = len(hand.fal.calls)
    for _ in range(20):
        assert await hand.cancel(job_id) == 202
        await hand.rooms.tracker._turn(1)
        await rest(hand.rooms.tracker.loop)
    assert [name for name, _ in hand.fal.calls[calls:]] == ["cancel", "status"]


@pytest.mark.parametrize("said", [CancelRequested(), CancelDone()])
async def test_fal_is_asked_until_it_answers_and_then_no_more(hand: Hand, said: object) -> None:
    job_id = await hand.at_fal("running")
    await hand.cancel(job_id)
    hand.fal.answer("cancel", Trouble("403"), Trouble("reset"), Gone(404), said)
    for _ in range(7):
        await hand.check()
    assert hand.fal.count("cancel") == 4
    assert await hand.status(job_id) == "running"


@pytest.mark.parametrize("said", [CancelRequested(), AlreadyCompleted(), Trouble("502"), Gone(404)])
async def test_a_job_that_ended_well_all_the_same_is_succeeded_and_charged(hand: Hand, said: object) -> None:
    job_id = await hand.at_fal("running")
    await hand.cancel(job_id)
    hand.fal.answer("cancel", said)
    hand.fal.answer("status", Completed(None, None))
    hand.fal.answer("result", succeeded())
    await hand.check()
    job = await hand.job(job_id)
    assert (job["status"], job["charged_usd"]) == ("succeeded", "1.40")
    assert await hand.cancel(job_id) == 409


@pytest.mark.parametrize("asked", [True, False])
async def test_a_499_of_another_name_is_a_cancel_when_it_was_asked_for(hand: Hand, asked: bool) -> None:  # noqa: FBT001
    job_id = await hand.at_fal("running")
    if asked:
        await hand.cancel(job_id)
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", failed(499, type_="client_disconnected"))
    await hand.check()
    assert await hand.status(job_id) == ("canceled" if asked else "failed")


async def _cancel_while_sending(hand: Hand, answer: object) -> str:
    job_id = await hand.submit()

    async def cancel() -> None:
        assert await hand.cancel(job_id) == 202

    hand.fal.answer("submit", answer)
    hand.fal.during["submit"] = cancel
    await hand.begin_sending()
    await rest(hand.rooms.dispatcher.loop)
    hand.fal.during.clear()
    return job_id


@pytest.mark.parametrize("answer", [NotSent("refused"), RefusedUs(429, "busy", None)], ids=str)
async def test_put_back_with_a_cancel_it_ends_canceled(hand: Hand, answer: object) -> None:
    job_id = await _cancel_while_sending(hand, answer)
    job = await hand.job(job_id)
    assert (job["status"], job["charged_usd"]) == ("canceled", "0.00")
    await hand.send()
    assert hand.fal.count("submit") == 1


async def test_let_go_before_its_start_with_a_cancel_it_ends_canceled(hand: Hand) -> None:
    job_id = await hand.at_fal()
    await hand.cancel(job_id)
    hand.fal.answer("status", Completed(None, None))
    hand.fal.answer("result", START_DEADLINE)
    await hand.check()
    assert await hand.status(job_id) == "canceled"
    await hand.send()
    assert hand.fal.count("submit") == 1


async def test_cancelled_while_it_is_sent_fal_is_asked_at_once_afterwards(hand: Hand) -> None:
    job_id = await _cancel_while_sending(hand, None)
    await hand.rooms.tracker._turn(1)
    await rest(hand.rooms.tracker.loop)
    assert hand.fal.count("cancel") == 1
    assert await hand.status(job_id) == "running"


async def test_cancelled_while_its_answer_is_lost_it_is_unconfirmed_and_remembers(hand: Hand) -> None:
    job_id = await _cancel_while_sending(hand, Unknown("reset", None))
    job = await hand.job(job_id)
    assert job["status"] == "unconfirmed"
    assert job["cancel_requested_at"] is not None
    assert await hand.cancel(job_id) == 202


@pytest.mark.parametrize("answer", [Trouble("502"), Gone(404)], ids=str)
async def test_a_cancel_during_a_check_is_not_put_off_by_it(hand: Hand, answer: object) -> None:
    job_id = await hand.at_fal("running")

    async def cancel() -> None:
        hand.fal.during.clear()
        assert await hand.cancel(job_id) == 202

    hand.fal.during["status"] = cancel
    hand.fal.answer("status", answer)
    await hand.check()
    await hand.rooms.tracker._turn(1)
    await rest(hand.rooms.tracker.loop)
    assert hand.fal.count("cancel") == 1


async def test_a_cancel_claimed_while_a_slow_check_runs_follows_right_after_it(hand: Hand) -> None:
    job_id = await hand.at_fal("running")

    async def cancel() -> None:
        hand.fal.during.clear()
        assert await hand.cancel(job_id) == 202
        await hand.rooms.tracker._turn(1)  # another turn claims it while we still wait for fal

    hand.fal.during["status"] = cancel
    await hand.check()
    assert hand.fal.count("cancel") == 1


async def test_a_cancel_and_a_completion_at_once_leave_one_end(hand: Hand) -> None:
    jobs = [await hand.submit(f"boat {n}") for n in range(20)]
    await hand.send()
    await hand.check()
    hand.fal.answer("status", *[Completed(None, None)] * 20)
    await hand.begin_checking()
    codes = await asyncio.gather(*(hand.cancel(job_id) for job_id in jobs))
    await rest(hand.rooms.tracker.loop)
    assert set(codes) <= {202, 409}
    assert {await hand.status(job_id) for job_id in jobs} == {"succeeded"}
    for job_id in jobs:
        assert await hand.entries(job_id) == [("hold", "1.40", None), ("settle", "1.40", None)]


async def test_a_cancel_and_a_claim_at_once_leave_each_job_canceled_or_sent(hand: Hand) -> None:
    jobs = [await hand.submit(f"boat {n}") for n in range(20)]
    codes, _ = await asyncio.gather(asyncio.gather(*(hand.cancel(job_id) for job_id in jobs)), hand.send())
    for job_id, code in zip(jobs, codes, strict=True):
        job = await hand.job(job_id)
        assert job["status"] == ("canceled" if code == 200 else "submitted")
        assert job["cancel_requested_at"] is not None
    assert hand.fal.count("submit") == codes.count(202)

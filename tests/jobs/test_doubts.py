"""A failure that fal's status did not speak of is believed once it was said for a while."""

import asyncio
from dataclasses import replace

import pytest

from app.fal import Completed
from app.jobs.at_fal import doubts
from tests.jobs.hand import START_DEADLINE, Hand, failed, succeeded

DONE = Completed(None, None)
QUIETLY = replace(failed(503), doubtful=True)


async def test_trouble_in_the_models_clothes_ends_no_job(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    for doubtful in (QUIETLY, replace(START_DEADLINE, doubtful=True), QUIETLY):
        hand.fal.answer("status", DONE)
        hand.fal.answer("result", doubtful)
        await hand.check()
        assert await hand.status(job_id) == "running"
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", succeeded())
    await hand.check()
    assert (await hand.status(job_id), hand.fal.count("submit")) == ("succeeded", 1)


async def test_what_is_said_again_and_again_is_believed(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await hand.at_fal("running")
    for expected in ("running", "failed"):
        hand.fal.answer("status", DONE)
        hand.fal.answer("result", QUIETLY)
        await hand.check()
        assert await hand.status(job_id) == expected
        monkeypatch.setattr(doubts, "SERVER_ERROR_FOR_SECONDS", 0.0)


async def test_a_refusal_of_the_input_is_doubted_for_moments_only(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "REFUSAL_FOR_SECONDS", 0.01)
    job_id = await hand.at_fal("running")
    for expected in ("running", "failed"):
        hand.fal.answer("status", DONE)
        hand.fal.answer("result", replace(failed(422), doubtful=True))
        await hand.check()
        assert await hand.status(job_id) == expected
        await asyncio.sleep(0.02)


async def test_what_a_cancel_leads_to_is_believed_at_once(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    assert await hand.cancel(job_id) == 202
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", replace(failed(499, canceled=True), doubtful=True))
    await hand.check()
    assert await hand.status(job_id) == "canceled"

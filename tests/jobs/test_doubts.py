"""A failure that fal's status did not speak of is believed once it was said for a while."""

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


@pytest.mark.parametrize(("code", "name"), [(503, "SERVER_ERROR_FOR_SECONDS"), (422, "REFUSAL_FOR_SECONDS")])
async def test_what_four_reads_say_for_so_long_is_believed(
    code: int, name: str, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubts, name, 1000.0)
    job_id = await hand.at_fal("running")

    async def read() -> str:
        hand.fal.answer("status", DONE)
        hand.fal.answer("result", replace(failed(code), doubtful=True))
        await hand.check()
        return await hand.status(job_id)

    assert [await read() for _ in range(5)] == ["running"] * 5  # not for so long
    monkeypatch.setattr(doubts, name, 1e-9)
    assert await read() == "failed"


async def test_two_reads_are_not_believed_however_far_apart(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "SERVER_ERROR_FOR_SECONDS", 1e-9)
    job_id = await hand.at_fal("running")
    for expected in ("running", "running", "running", "failed"):
        hand.fal.answer("status", DONE)
        hand.fal.answer("result", QUIETLY)
        await hand.check()
        assert await hand.status(job_id) == expected


async def test_what_a_cancel_leads_to_is_believed_at_once(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    assert await hand.cancel(job_id) == 202
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", replace(failed(499, canceled=True), doubtful=True))
    await hand.check()
    assert await hand.status(job_id) == "canceled"

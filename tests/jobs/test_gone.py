"""fal's queue no longer knows a job: its request list decides."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.fal import Gone, InProgress, Trouble
from tests.jobs.hand import VIDEO, Hand

ENDED = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def hand(swept_hand: Hand) -> Hand:
    """One database for all of them: none leaves a job to the next."""
    return swept_hand


async def gone(hand: Hand, *, checks: int = 2, status: str = "running") -> str:
    """A job of which fal's queue says twice, a minute apart, that it does not know it."""
    job_id = await hand.at_fal(status)
    for _ in range(checks):
        hand.fal.answer("status", Gone(404))
        await hand.check()
        hand.clock.move(seconds=61)
    return job_id


async def name(hand: Hand, **ending: Any) -> None:
    """fal's request list names whatever the next job is given as its request id."""
    real = hand.fal.list.request

    async def request(endpoint: str, fal_request_id: str) -> Any:
        hand.fal.list.name(fal_request_id, {"prompt": "a boat"}, endpoint=endpoint, **ending)
        return await real(endpoint, fal_request_id)

    hand.fal.list.request = request  # type: ignore[method-assign]


async def test_a_success_on_the_list_ends_the_job_and_is_charged_as_quoted(hand: Hand) -> None:
    await name(hand, ended_at=ENDED, code=200, output=VIDEO)
    job = await hand.job(await gone(hand))
    assert (job["status"], job["output"], job["charged_usd"]) == ("succeeded", VIDEO, "1.40")


@pytest.mark.parametrize(
    ("code", "output", "charged", "mark"),
    [
        (422, {"detail": [{"loc": ["body"], "msg": "no", "type": "content_policy_violation"}]}, "void", "unstated"),
        (500, {"detail": "Internal Server Error"}, "void", None),
        (504, None, "void", None),
    ],
)
async def test_a_failure_on_the_list_ends_the_job_as_its_result_would(
    hand: Hand, code: int, output: dict[str, object] | None, charged: str, mark: str | None
) -> None:
    await name(hand, ended_at=ENDED, code=code, output=output)
    job_id = await gone(hand)
    job = await hand.job(job_id)
    assert (job["status"], job["charged_usd"], job["error"]["fal"]["status"]) == ("failed", "0.00", code)
    assert (await hand.entries(job_id))[1:] == [(charged, "1.40", mark)]


async def test_a_cancel_on_the_list_ends_the_job_as_canceled(hand: Hand) -> None:
    await name(hand, ended_at=ENDED, code=499, output={"detail": "cancelled", "error_type": "client_cancelled"})
    assert await hand.status(await gone(hand)) == "canceled"


async def test_our_cancel_of_a_job_past_its_deadline_fails_it_though_a_crash_hid_that_fal_took_it(hand: Hand) -> None:
    await name(hand, ended_at=ENDED, code=499, output={"detail": "cancelled", "error_type": "client_cancelled"})
    job_id = await hand.at_fal("running")
    hand.clock.move(hours=2)
    await hand.sql("UPDATE jobs SET status = 'unconfirmed'")
    for _ in range(3):
        hand.fal.answer("status", Gone(404))
        await hand.check()
    job = await hand.job(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "deadline-exceeded")


async def test_what_the_list_says_is_running_is_followed_on(hand: Hand) -> None:
    await name(hand)
    job_id = await gone(hand, checks=4)
    assert await hand.status(job_id) == "running"


async def test_while_the_list_cannot_be_read_the_job_is_followed_until_its_deadline(hand: Hand) -> None:
    hand.fal.list.trouble = Trouble("Bad Gateway", 502)
    job_id = await gone(hand, checks=4)
    assert await hand.status(job_id) == "running"
    hand.clock.move(seconds=3600)
    hand.fal.answer("status", Gone(404))
    await hand.check()
    assert await hand.status(job_id) == "unconfirmed"


@pytest.mark.parametrize(
    "ending",
    [
        None,
        {"ended_at": ENDED, "code": 200, "output": None},  # its output is not kept
        {"ended_at": ENDED, "code": None, "output": None},
        {"ended_at": ENDED, "code": 307, "output": None},
        {"ended_at": ENDED, "code": 401, "output": None},  # that may be us
    ],
    ids=str,
)
async def test_a_list_that_does_not_tell_how_it_ended_leaves_it_unconfirmed(
    hand: Hand, ending: dict[str, Any] | None
) -> None:
    if ending is not None:
        await name(hand, **ending)
    assert await hand.status(await gone(hand)) == "unconfirmed"


async def test_one_404_alone_asks_no_list(hand: Hand) -> None:
    await gone(hand, checks=1)
    assert hand.fal.list.calls == []


async def test_the_404_of_another_fal_key_is_not_gone(hand: Hand) -> None:
    hand.fal.list.calls.clear()
    job_id = await hand.at_fal("running")
    hand.fal.key_id = "another-key"
    for _ in range(4):
        hand.fal.answer("status", Gone(404))
        await hand.check()
        hand.clock.move(seconds=61)
    assert await hand.status(job_id) == "running"
    assert hand.fal.list.calls == []
    hand.fal.answer("status", InProgress())
    await hand.check()
    assert await hand.status(job_id) == "running"


async def test_an_unconfirmed_job_ends_once_the_list_tells_how(hand: Hand) -> None:
    job_id = await hand.at_fal("unconfirmed")
    await name(hand, ended_at=ENDED, code=200, output=VIDEO)
    for _ in range(10):
        hand.fal.answer("status", Gone(404))
        await hand.check()
    assert await hand.status(job_id) == "succeeded"
    assert len(hand.fal.list.calls) == 1, "it is asked about at every tenth check"

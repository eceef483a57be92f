"""The caller's own start deadline: what is sent to fal, and the end of a job that did not start in time."""

import json
from typing import Any

import pytest

from app.fal import Completed
from app.jobs.ends.overdue import end_overdue
from app.settings import Settings
from tests.jobs.hand import START_DEADLINE, TEXT, Hand, by_hand, rest

COMPLETED = Completed("Request timed out before it started", "request_timeout")


async def ask(hand: Hand, seconds: float | None) -> str:
    headers = hand.person.headers | ({} if seconds is None else {"X-Fal-Request-Start-Timeout": str(seconds)})
    answer = await hand.gateway.client.post(f"/fal/{TEXT}", json={"prompt": "a boat"}, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


async def sent(hand: Hand, job_id: str) -> list[int]:
    return [attempt["start_seconds"] for attempt in await hand.attempts(job_id)]


def reply(row: dict[str, Any]) -> dict[str, Any]:
    stored = row["fal_reply"]
    found: dict[str, Any] = json.loads(stored) if isinstance(stored, str) else stored
    return found


async def assert_did_not_start(hand: Hand, job_id: str) -> None:
    """As fal itself ends it, free."""
    row = await hand.row(job_id)
    assert (row["status"], row["charged_usd"]) == ("failed", 0)
    assert reply(row)["status"] == 504
    assert reply(row)["headers"]["x-fal-request-timeout-type"] == "user"
    result = await hand.gateway.client.get(f"/fal/{TEXT}/requests/{job_id}", headers=hand.person.headers)
    assert (result.status_code, result.json()["error_type"]) == (504, "request_timeout")
    assert result.headers["x-fal-request-timeout-type"] == "user"
    job = await hand.job(job_id)
    assert (job["error"]["code"], job["error"]["fal"]) == (
        "request-timeout",
        {"status": 504, "type": "request_timeout"},
    )
    assert [(kind, usd) for kind, usd, _ in await hand.entries(job_id)] == [("hold", "1.40"), ("void", "1.40")]


@pytest.mark.parametrize(
    ("seconds", "waited", "expected"),
    [(None, 100, 3600), (90, 0, 90), (90.5, 30, 61), (90, 89, 2), (10**8, 0, 3600)],
)
async def test_it_is_sent_with_what_is_left_of_it(
    settings: Settings, seconds: float | None, waited: float, expected: int
) -> None:
    async with by_hand(settings) as hand:
        told: list[int] = []

        job_id = await ask(hand, seconds)
        hand.clock.move(seconds=waited)
        submit = hand.fal.submit

        async def noted(endpoint: str, body: Any, *, start_seconds: int, **more: Any) -> Any:
            told.append(start_seconds)
            return await submit(endpoint, body, start_seconds=start_seconds, **more)

        hand.fal.submit = noted  # type: ignore[method-assign]
        await hand.send()
        (stored,) = await sent(hand, job_id)
        assert told == [stored]
        assert expected - 5 <= stored <= expected if expected > 2 and waited < 89 else stored == expected


async def test_what_fal_lets_go_of_then_has_failed(settings: Settings) -> None:
    async with by_hand(settings) as hand:
        job_id = await ask(hand, 90)
        await hand.send()
        hand.clock.move(seconds=91)
        hand.fal.answer("status", COMPLETED)
        hand.fal.answer("result", START_DEADLINE)
        await hand.check()
        await assert_did_not_start(hand, job_id)


async def test_what_fal_lets_go_of_before_is_sent_again(settings: Settings) -> None:
    async with by_hand(settings) as hand:
        job_id = await ask(hand, 90)
        await hand.send()
        hand.clock.move(seconds=30)
        hand.fal.answer("status", COMPLETED)
        hand.fal.answer("result", START_DEADLINE)
        await hand.check()
        assert await hand.status(job_id) == "queued"
        await hand.send()
        first, second = await sent(hand, job_id)
        assert second <= first - 30


async def test_what_was_cancelled_meanwhile_is_canceled(settings: Settings) -> None:
    async with by_hand(settings) as hand:
        job_id = await ask(hand, 90)
        await hand.send()
        hand.clock.move(seconds=91)
        await hand.cancel(job_id)
        hand.fal.answer("status", COMPLETED)
        hand.fal.answer("result", START_DEADLINE)
        await hand.check()
        assert await hand.status(job_id) == "canceled"


async def test_what_waited_for_longer_in_the_queue_has_failed(settings: Settings) -> None:
    async with by_hand(settings) as hand:
        patient, hasty = await ask(hand, 300), await ask(hand, 90)
        without = await hand.submit()
        hand.clock.move(seconds=89)
        assert await end_overdue(hand.gateway.wiring, hand.rooms.endings) == 0
        hand.clock.move(seconds=2)
        assert await end_overdue(hand.gateway.wiring, hand.rooms.endings) == 1
        await assert_did_not_start(hand, hasty)
        assert [await hand.status(job_id) for job_id in (patient, without)] == ["queued", "queued"]
        await rest(hand.rooms.dispatcher.loop)


@pytest.mark.parametrize("concurrency", [None, 4])
async def test_what_its_caller_waits_for_no_longer_is_never_sent(settings: Settings, concurrency: int | None) -> None:
    """After an outage, say: it might start, and be paid for."""
    async with by_hand(settings.model_copy(update={"fal_concurrency": concurrency})) as hand:
        hasty, patient = await ask(hand, 3), await ask(hand, 300)
        hand.clock.move(seconds=100)
        await hand.send()
        assert (await sent(hand, hasty), len(await sent(hand, patient))) == ([], 1)
        assert await end_overdue(hand.gateway.wiring, hand.rooms.endings) == 1
        await assert_did_not_start(hand, hasty)

"""Sending: fal away, fal refusing us, large inputs, and an orderly stop."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable

import pytest

from app.fal import NotSent, RefusedUs, Unknown
from tests.jobs.hand import Hand, accepted, rest, until

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e366"
    "0000000049454e44ae426082"
)


def _until_set(gate: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await gate.wait()

    return wait


async def _many(hand: Hand, count: int) -> list[str]:
    return [await hand.submit(f"boat {n}") for n in range(count)]


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (NotSent("refused"), "queued"),
        (RefusedUs(403, "User is locked", None), "queued"),
        (Unknown("502", 502), "unconfirmed"),
    ],
    ids=str,
)
async def test_while_fal_takes_no_jobs_one_at_a_time_is_tried(hand: Hand, answer: object, ends: str) -> None:
    jobs = await _many(hand, 20)
    hand.fal.answer("submit", *[answer] * 8)
    hand.fal.during["submit"] = lambda: asyncio.sleep(0.01)
    await hand.rooms.dispatcher._turn(64)
    await rest(hand.rooms.dispatcher.loop)
    assert hand.fal.count("submit") == 4
    for tried in (5, 6, 7, 8):
        await hand.send()
        assert hand.fal.count("submit") == tried
    assert [await hand.status(job_id) for job_id in jobs].count(ends) == (20 if ends == "queued" else 8)
    await hand.send()  # the ninth is accepted: fal is back
    assert hand.fal.count("submit") == 9
    await hand.send()
    assert [await hand.status(job_id) for job_id in jobs].count("submitted") == (20 if ends == "queued" else 12)


async def test_retry_after_is_heeded(hand: Hand) -> None:
    await hand.submit()
    hand.fal.answer("submit", RefusedUs(429, "busy", 30))
    await hand.send()
    assert (await hand.sql("SELECT next_check_at > created_at + interval '25 s' AS later FROM jobs"))[0]["later"]


async def test_one_job_that_fal_always_answers_with_401_holds_up_nobody(hand: Hand) -> None:
    poisoned = await hand.submit("poison")
    hand.fal.always["submit", "fal-ai/kling-video/v2.1/master/text-to-video poison"] = RefusedUs(401, "no", None)
    for n in range(10):
        job_id = await hand.submit(f"boat {n}")
        for _ in range(3):
            await hand.send()
        assert await hand.status(job_id) == "submitted"
    assert await hand.status(poisoned) == "queued"


async def test_large_inputs_are_taken_only_as_memory_allows(hand: Hand) -> None:
    image = base64.b64encode(PIXEL).decode()
    body = {"prompt": "a boat", "image_url": f"data:image/png;base64,{image}"}
    for _ in range(4):
        answer = await hand.gateway.client.post("/v1/image-to-video", json=body, headers=hand.person.headers)
        assert answer.status_code == 202, answer.text
    large = {"prompt": "a boat", "image_url": "x"}
    await hand.sql("ALTER TABLE payloads ALTER COLUMN input SET STORAGE EXTERNAL")
    await hand.sql(
        "UPDATE payloads SET input = jsonb_set($1::text::jsonb, '{image_url}', to_jsonb(repeat('x', 14000000)))::json",
        json.dumps(large),
    )
    gate = asyncio.Event()
    hand.fal.during["submit"] = _until_set(gate)
    for _ in range(4):
        await hand.begin_sending()
        await asyncio.sleep(0)
    assert len(hand.rooms.dispatcher.loop._working) == 3  # two, then one more as the first is always taken
    gate.set()
    await rest(hand.rooms.dispatcher.loop)
    assert hand.rooms.dispatcher._input_bytes == 0
    await hand.send()
    assert hand.fal.count("submit") == 4


async def test_what_was_claimed_but_not_sent_is_given_back_at_a_stop(hand: Hand) -> None:
    jobs = await _many(hand, 3)
    loop = hand.rooms.dispatcher.loop
    running = asyncio.create_task(loop.run())
    stopping = asyncio.create_task(loop.stop(within_seconds=5))  # before the claim's answer is here
    await asyncio.gather(running, stopping)
    assert hand.fal.calls == []
    assert [await hand.status(job_id) for job_id in jobs] == ["queued"] * 3
    await hand.rooms.dispatcher._turn(2)
    await rest(loop)
    assert hand.fal.calls == []
    rows = await hand.sql("SELECT status, next_check_at <= now() AS due FROM jobs")
    assert [(row["status"], row["due"]) for row in rows] == [("queued", True)] * 3


async def test_a_post_under_way_at_a_stop_is_waited_for(hand: Hand) -> None:
    job_id = await hand.submit()
    gate = asyncio.Event()
    hand.fal.during["submit"] = _until_set(gate)
    await hand.begin_sending()
    await until(lambda: hand.fal.count("submit") == 1)
    loop = hand.rooms.dispatcher.loop
    stopping = asyncio.create_task(loop.stop(within_seconds=60))
    await until(lambda: loop.is_stopping)
    gate.set()
    await stopping
    assert await hand.status(job_id) == "submitted"


async def test_a_post_that_outlasts_the_stop_is_never_sent_again(hand: Hand) -> None:
    job_id = await hand.submit()
    hand.fal.during["submit"] = lambda: asyncio.sleep(3600)
    await hand.begin_sending()
    await until(lambda: hand.fal.count("submit") == 1)
    await hand.rooms.dispatcher.loop.stop(within_seconds=0.2)
    assert await hand.status(job_id) == "submitting"
    hand.fal.during.clear()
    await hand.lose_leases()
    assert await hand.status(job_id) == "unconfirmed"
    await hand.send()
    assert hand.fal.count("submit") == 1


async def test_an_answer_that_cannot_be_stored_stands_in_the_log(
    hand: Hand, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    async def away(*_: object, **__: object) -> bool:
        tries.append(1)
        raise OSError("the database is away")

    monkeypatch.setattr(hand.rooms.dispatcher._moves, "accepted", away)
    await hand.submit()
    hand.fal.answer("submit", accepted("the-request"))
    await hand.begin_sending()
    await until(lambda: bool(tries))
    await hand.rooms.dispatcher.loop.stop(within_seconds=0.1)
    assert "the-request" in caplog.text


async def test_fals_answer_is_kept_however_long_the_database_is_away(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await hand.submit()
    accepting, tries = hand.rooms.dispatcher._moves.accepted, []

    async def away_at_first(*given: object, **named: object) -> bool:
        tries.append(given)
        if len(tries) < 3:
            raise OSError("the database is away")
        return await accepting(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(hand.rooms.dispatcher._moves, "accepted", away_at_first)
    await hand.send()
    assert await hand.status(job_id) == "submitted"
    assert hand.fal.count("submit") == 1

"""A replica that is told to end: it claims nothing more, and what it has claimed is due at once for the others."""

import asyncio

from tests.jobs.hand import Hand, until

_DUE = "SELECT id FROM jobs WHERE status IN ('submitted', 'running') AND next_check_at <= now()"


async def test_what_was_claimed_but_not_asked_about_is_due_at_once(hand: Hand) -> None:
    jobs = [await hand.at_fal(prompt=f"boat {n}") for n in range(3)]
    asked = len(hand.fal.calls)
    tracker = hand.rooms.tracker
    await hand.begin_checking()
    tracker.loop.leave()
    await tracker.loop.stop(within_seconds=5)
    assert len(hand.fal.calls) == asked
    assert len(await hand.sql(_DUE)) == len(jobs)


async def test_what_fal_does_not_answer_in_time_is_due_at_once(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    hand.fal.during["status"] = lambda: asyncio.sleep(3600)
    asked = hand.fal.count("status")
    await hand.begin_checking()
    await until(lambda: hand.fal.count("status") == asked + 1)
    assert await hand.sql(_DUE) == []
    await hand.rooms.tracker.loop.stop(within_seconds=0.1)
    assert [row["id"].hex for row in await hand.sql(_DUE)] == [job_id[4:]]


async def test_from_the_signal_on_nothing_is_claimed(hand: Hand) -> None:
    rooms = hand.rooms
    loops = [asyncio.create_task(loop.run()) for loop in rooms._loops]
    rooms.release_waiting()  # the server still finishes its open answers
    await asyncio.gather(*loops)
    job_id = await hand.submit()
    await asyncio.sleep(0.1)
    assert await hand.status(job_id) == "queued"
    assert hand.fal.calls == []

"""The life of a job: every row of DESIGN section 3's table, by name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from app.db import CommitUnknown, Plain
from app.fal import (
    Completed,
    FalError,
    Gone,
    InProgress,
    NotSent,
    NotYet,
    Queued,
    Refused,
    RefusedUs,
    Trouble,
    Unknown,
    UnknownStatus,
)
from app.jobs.at_fal.claims import claim_followed, claim_queued
from app.jobs.ends.overdue import end_overdue
from tests.jobs.hand import START_DEADLINE, Hand, accepted, failed, rest, succeeded, until

DONE = Completed(None, None)
REFUSED = Refused(FalError(422, "string_type", "Title", "detail", retryable=False, body={}))
US = [RefusedUs(code, "no", None) for code in (401, 403, 404, 405, 409, 429)]
AT_FAL = ["submitted", "running", "unconfirmed"]
FREE = [("hold", "1.40", None), ("void", "1.40", None)]
CHARGED = [("hold", "1.40", None), ("settle", "1.40", None)]


# queued


async def test_queued_becomes_submitting_with_its_attempt_committed_before_the_post(hand: Hand) -> None:
    job_id = await hand.submit()
    seen: dict[str, Any] = {}

    async def look() -> None:
        seen["row"], seen["attempts"] = await hand.row(job_id), await hand.attempts(job_id)

    hand.fal.during["submit"] = look
    await hand.send()
    assert seen["row"]["status"] == "submitting"
    assert [(a["id"], a["outcome"]) for a in seen["attempts"]] == [(seen["row"]["attempt_id"], None)]
    assert seen["attempts"][0]["fal_key_id"] == hand.fal.key_id


async def test_queued_becomes_canceled_at_once_and_free(hand: Hand) -> None:
    job_id = await hand.submit()
    assert [await hand.cancel(job_id), await hand.cancel(job_id)] == [200, 200]
    job = await hand.job(job_id)
    assert (job["status"], job["charged_usd"], job["error"]["code"]) == ("canceled", "0.00", "canceled")
    assert await hand.entries(job_id) == FREE
    await hand.send()
    assert hand.fal.calls == []


async def test_queued_becomes_failed_when_it_waited_too_long(hand: Hand) -> None:
    early, late = await hand.submit(), await hand.submit()
    hand.clock.move(seconds=hand.gateway.wiring.settings.queue_seconds - 60)
    assert await end_overdue(hand.rooms.wiring, hand.rooms.endings) == 0
    hand.clock.move(seconds=120)
    young = await hand.submit()
    assert await end_overdue(hand.rooms.wiring, hand.rooms.endings) == 2
    for job_id in (early, late):
        job = await hand.job(job_id)
        assert (job["status"], job["charged_usd"], job["error"]["code"]) == ("failed", "0.00", "queue-timeout")
        assert await hand.entries(job_id) == FREE
    assert await hand.status(young) == "queued"


async def test_only_the_queued_time_out_in_the_queue(hand: Hand) -> None:
    job_id = await hand.at_fal()
    hand.clock.move(days=3)
    for status in AT_FAL:
        await hand.sql("UPDATE jobs SET status = $1", status)
        assert await end_overdue(hand.rooms.wiring, hand.rooms.endings) == 0
        assert await hand.status(job_id) == status


# submitting


async def test_submitting_becomes_submitted_when_fal_accepts(hand: Hand) -> None:
    job_id = await hand.submit()
    hand.fal.answer("submit", accepted("the-request"))
    await hand.send()
    job = await hand.job(job_id)
    assert (job["status"], job["fal_request_id"], job["queue_position"]) == ("submitted", "the-request", 0)
    assert job["submitted_at"] is not None
    assert [a["outcome"] for a in await hand.attempts(job_id)] == ["accepted"]


async def test_submitting_becomes_failed_when_fal_refuses_it(hand: Hand) -> None:
    job_id = await hand.submit()
    hand.fal.answer("submit", REFUSED)
    await hand.send()
    job = await hand.job(job_id)
    assert (job["status"], job["error"]["code"], job["error"]["fal"]["status"]) == ("failed", "string-type", 422)
    assert await hand.entries(job_id) == FREE
    assert [a["outcome"] for a in await hand.attempts(job_id)] == ["refused"]


@pytest.mark.parametrize("outcome", [NotSent("refused connection"), *US], ids=str)
async def test_submitting_becomes_queued_when_nothing_was_sent_or_fal_refused_us(hand: Hand, outcome: object) -> None:
    job_id = await hand.submit()
    hand.fal.answer("submit", outcome)
    await hand.send()
    row = await hand.row(job_id)
    assert (row["status"], row["attempt_id"]) == ("queued", None)
    assert (await hand.sql("SELECT next_check_at > now() AS later FROM jobs"))[0]["later"]
    await hand.send()
    assert await hand.status(job_id) == "submitted"
    assert len({a["id"] for a in await hand.attempts(job_id)}) == 2
    assert await hand.entries(job_id) == [("hold", "1.40", None)]


async def test_submitting_becomes_unconfirmed_when_the_answer_was_lost_and_is_never_sent_again(hand: Hand) -> None:
    job_id = await hand.submit()
    hand.fal.answer("submit", Unknown("ReadTimeout", None))
    await hand.send()
    job = await hand.job(job_id)
    assert (job["status"], job["held_usd"], job["charged_usd"]) == ("unconfirmed", "1.40", None)
    for _ in range(3):
        await hand.send()
        await hand.check()
    assert hand.fal.calls == [("submit", "fal-ai/kling-video/v2.1/master/text-to-video a boat")]


async def test_submitting_becomes_unconfirmed_when_its_dispatcher_was_killed(hand: Hand) -> None:
    job_id = await hand.submit()
    await claim_queued(
        hand.rooms.wiring.db,
        1,
        lease_seconds=90,
        fal_key_id="the-key",
        most_bytes=1,
        start_seconds=3600,
        now=hand.clock(),
    )
    await hand.check()
    assert await hand.status(job_id) == "submitting"  # the lease still runs
    await hand.lose_leases()
    assert await hand.status(job_id) == "unconfirmed"
    await hand.send()
    assert hand.fal.calls == []


async def test_a_claim_that_may_not_have_been_committed_is_given_back_unsent(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [await hand.submit(), await hand.submit()]
    begin_plain = hand.gateway.wiring.db.begin_plain

    @asynccontextmanager
    async def losing_the_answer(*, durable: bool = True, first: str = "") -> AsyncIterator[Plain]:
        monkeypatch.setattr(hand.gateway.wiring.db, "begin_plain", begin_plain)
        async with begin_plain(durable=durable, first=first) as plain:
            yield plain
        raise CommitUnknown

    monkeypatch.setattr(hand.gateway.wiring.db, "begin_plain", losing_the_answer)
    await hand.rooms.dispatcher._turn(10)
    await rest(hand.rooms.dispatcher.loop)
    assert hand.fal.calls == []
    assert [await hand.status(job_id) for job_id in jobs] == ["queued", "queued"]
    assert [a["outcome"] for a in await hand.attempts(jobs[0])] == ["not_sent"]
    await hand.send()
    assert [await hand.status(job_id) for job_id in jobs] == ["submitted", "submitted"]


async def test_a_lease_outlasts_the_longest_post(hand: Hand) -> None:
    await hand.submit()
    hand.fal.during["submit"] = lambda: asyncio.sleep(0.2)
    await hand.begin_sending()
    lease = (await hand.sql("SELECT extract(epoch FROM next_check_at - created_at)::float8 AS s FROM jobs"))[0]["s"]
    assert lease > hand.fal.longest_seconds + 25
    await rest(hand.rooms.dispatcher.loop)


# at fal


async def test_submitted_and_running_follow_fal_back_and_forth(hand: Hand) -> None:
    job_id = await hand.at_fal()
    for answer, status, position in (
        (Queued(2), "submitted", 2),
        (InProgress(), "running", None),
        (Queued(1), "submitted", 1),
        (InProgress(), "running", None),
    ):
        hand.fal.answer("status", answer)
        await hand.check()
        job = await hand.job(job_id)
        assert (job["status"], job["queue_position"]) == (status, position)
        assert (job["started_at"] is not None) == (status == "running")


async def test_a_check_that_finds_nothing_new_writes_only_its_claim(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    before = await hand.row(job_id)
    await hand.check()
    after = await hand.row(job_id)
    assert {name for name in before if before[name] != after[name]} == {"checks", "next_check_at"}


@pytest.mark.parametrize("status", AT_FAL)
@pytest.mark.parametrize(
    ("result", "end", "entries"),
    [
        (succeeded(), "succeeded", CHARGED),
        (failed(500, type_="internal_server_error"), "failed", FREE),
        (failed(499, canceled=True), "canceled", [FREE[0], ("void", "1.40", "unstated")]),
    ],
    ids=["succeeded", "failed", "canceled"],
)
async def test_what_is_at_fal_ends_as_fals_result_says(
    hand: Hand, status: str, result: object, end: str, entries: object
) -> None:
    job_id = await hand.at_fal(status)
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", result)
    await hand.check()
    job = await hand.job(job_id)
    assert (job["status"], job["finished_at"] is not None, job["held_usd"]) == (end, True, "0.00")
    assert (job["output"] is not None) == (end == "succeeded")
    assert await hand.entries(job_id) == entries
    await hand.check()
    assert hand.fal.count("result") == 1


@pytest.mark.parametrize("status", AT_FAL)
async def test_what_fal_says_it_let_go_unstarted_is_queued_again_for_free_whatever_we_had_seen(
    hand: Hand, status: str
) -> None:
    """From `submitted`, `running` and `unconfirmed` alike.

    Fal's own 504 by the start deadline is the evidence that the request was let go unstarted, whatever an earlier
    status read said.
    """
    job_id = await hand.at_fal(status)
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", START_DEADLINE)
    await hand.check()
    row = await hand.row(job_id)
    assert (row["status"], row["fal_request_id"], row["submitted_at"]) == ("queued", None, None)
    await hand.send()
    assert [a["outcome"] for a in await hand.attempts(job_id)] == ["start_deadline", "accepted"]
    assert await hand.entries(job_id) == [("hold", "1.40", None)]


async def test_a_job_past_its_deadline_is_unconfirmed_and_keeps_its_fal_request_id(hand: Hand) -> None:
    settings = hand.gateway.wiring.settings
    job_id = await hand.at_fal("running")
    hand.clock.move(seconds=settings.job_deadline_seconds - 5)
    await hand.check()
    assert await hand.status(job_id) == "running"
    hand.clock.move(seconds=10)
    await hand.check()
    job = await hand.job(job_id)
    assert job["status"] == "unconfirmed"
    assert job["fal_request_id"] is not None


async def test_a_job_that_starts_late_has_its_whole_deadline_from_its_start(hand: Hand) -> None:
    settings = hand.gateway.wiring.settings
    job_id = await hand.at_fal()
    hand.fal.answer("status", Queued(0))
    hand.clock.move(seconds=settings.start_seconds + settings.job_deadline_seconds - 10)
    await hand.check()
    assert await hand.status(job_id) == "submitted"
    await hand.check()
    hand.clock.move(seconds=settings.job_deadline_seconds - 10)
    await hand.check()
    assert await hand.status(job_id) == "running"


@pytest.mark.parametrize("answer", [Queued(0), UnknownStatus("PAUSED"), Trouble("HTML", 502), Gone(404), DONE], ids=str)
async def test_a_silent_job_is_unconfirmed_whatever_fal_says_in_place_of_an_end(hand: Hand, answer: object) -> None:
    settings = hand.gateway.wiring.settings
    job_id = await hand.at_fal()
    hand.fal.answer("status", answer)
    hand.fal.answer("result", NotYet())
    hand.clock.move(seconds=settings.start_seconds + settings.job_deadline_seconds + 1)
    await hand.check()
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_job_of_another_fal_key_is_unconfirmed_at_its_deadline_too(hand: Hand) -> None:
    settings = hand.gateway.wiring.settings
    job_id = await hand.at_fal()
    hand.fal.key_id = "another-key"
    for _ in range(3):
        hand.fal.answer("status", Gone(404))
        hand.clock.move(minutes=2)
        await hand.check()
    assert await hand.status(job_id) == "submitted"
    hand.fal.answer("status", Gone(404))
    hand.clock.move(seconds=settings.start_seconds + settings.job_deadline_seconds)
    await hand.check()
    assert await hand.status(job_id) == "unconfirmed"


# gone


async def test_a_404_counts_only_twice_a_minute_apart(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    hand.fal.answer("status", *[Gone(404)] * 4)
    await hand.check()
    hand.clock.move(seconds=50)
    await hand.check()
    assert await hand.status(job_id) == "running"
    hand.clock.move(seconds=11)
    await hand.check()
    job = await hand.job(job_id)
    assert (job["status"], job["held_usd"]) == ("unconfirmed", "1.40")
    assert job["fal_request_id"] is not None


async def test_a_good_answer_between_two_404_makes_them_two_first_ones(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    hand.fal.answer("status", Gone(410), InProgress(), Gone(410))
    for _ in range(3):
        await hand.check()
        hand.clock.move(seconds=61)
    assert await hand.status(job_id) == "running"


async def test_a_404_of_the_result_counts_as_one_of_the_status(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    hand.fal.answer("status", DONE, DONE)
    hand.fal.answer("result", Gone(404), Gone(404))
    await hand.check()
    hand.clock.move(seconds=61)
    await hand.check()
    assert await hand.status(job_id) == "unconfirmed"


async def test_ten_jobs_gone_at_once_are_our_fault_and_nine_are_theirs(hand: Hand) -> None:
    jobs = [await hand.submit(f"boat {n}") for n in range(10)]
    await hand.send()
    for _ in range(3):
        hand.fal.answer("status", *[Gone(404)] * 10)
        await hand.check()
        hand.clock.move(seconds=61)
    assert [await hand.status(job_id) for job_id in jobs] == ["submitted"] * 10
    for job_id in jobs:
        hand.fal.always["status", (await hand.row(job_id))["fal_request_id"]] = Gone(404)
    hand.fal.always["status", (await hand.row(jobs[0]))["fal_request_id"]] = InProgress()
    for _ in range(2):
        await hand.check()
        hand.clock.move(seconds=61)
    assert [await hand.status(job_id) for job_id in jobs] == ["running", *["unconfirmed"] * 9]


async def test_unconfirmed_jobs_do_not_speak_against_the_others(hand: Hand) -> None:
    for n in range(12):
        await hand.submit(f"boat {n}")
    await hand.send()
    await hand.sql("UPDATE jobs SET status = 'unconfirmed'")
    last = await hand.submit()
    await hand.send()
    for _ in range(2):
        hand.fal.answer("status", *[Gone(404)] * 13)
        await hand.check()
        hand.clock.move(seconds=61)
    assert await hand.status(last) == "unconfirmed"


# unconfirmed


@pytest.mark.parametrize(("answer", "status"), [(Queued(3), "submitted"), (InProgress(), "running")], ids=str)
async def test_unconfirmed_is_followed_again_once_fal_knows_it(hand: Hand, answer: object, status: str) -> None:
    job_id = await hand.at_fal("unconfirmed")
    hand.fal.answer("status", answer)
    await hand.check()
    assert await hand.status(job_id) == status


async def test_unconfirmed_is_asked_about_once_a_minute(hand: Hand) -> None:
    await hand.at_fal("running")
    hand.clock.move(seconds=hand.gateway.wiring.settings.job_deadline_seconds + 1)
    for _ in range(3):
        await hand.check()
        left = await hand.sql("SELECT status, extract(epoch FROM next_check_at - now())::float8 AS s FROM jobs")
        assert left[0]["status"] == "unconfirmed"
        assert 55 < left[0]["s"] <= 60


@pytest.mark.parametrize(
    ("body", "entries"),
    [
        ({"outcome": "charge"}, CHARGED),
        ({"outcome": "charge", "amount_usd": "0.70"}, [CHARGED[0], ("settle", "0.70", None)]),
        ({"outcome": "void"}, FREE),
    ],
    ids=str,
)
async def test_unconfirmed_becomes_failed_when_an_admin_resolves_it(
    hand: Hand, body: dict[str, str], entries: object
) -> None:
    job_id = await hand.submit()
    hand.fal.answer("submit", Unknown("ReadError", None))
    await hand.send()
    assert [await hand.resolve(job_id, **body), await hand.resolve(job_id, **body)] == [200, 409]
    job = await hand.job(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "unconfirmed")
    assert await hand.entries(job_id) == entries


@pytest.mark.parametrize(
    "amount", ["1e30", "9" * 40, "100000000000.00", "0.0000000001", "-0.01", "NaN", "Infinity", "", "1.40 USD"]
)
async def test_an_absurd_amount_resolves_nothing(hand: Hand, amount: str) -> None:
    job_id = await hand.at_fal("unconfirmed")
    assert await hand.resolve(job_id, outcome="charge", amount_usd=amount) == 422
    assert await hand.status(job_id) == "unconfirmed"
    assert await hand.entries(job_id) == [("hold", "1.40", None)]


@pytest.mark.parametrize("status", ["queued", "submitted", "running"])
async def test_only_an_unconfirmed_job_can_be_resolved(hand: Hand, status: str) -> None:
    job_id = await hand.submit() if status == "queued" else await hand.at_fal(status)
    assert await hand.resolve(job_id, outcome="void") == 409
    assert await hand.status(job_id) == status


# Late answers: compare-and-set


async def _lose_the_lease_while_sending(hand: Hand, answer: object) -> str:
    job_id = await hand.submit()
    hand.fal.answer("submit", answer)
    hand.fal.during["submit"] = hand.lose_leases
    await hand.begin_sending()
    await rest(hand.rooms.dispatcher.loop)
    hand.fal.during.clear()
    return job_id


async def test_accepted_after_the_lease_was_lost_is_submitted_after_all(hand: Hand) -> None:
    job_id = await _lose_the_lease_while_sending(hand, accepted("late"))
    job = await hand.job(job_id)
    assert (job["status"], job["fal_request_id"]) == ("submitted", "late")
    hand.fal.answer("status", DONE)
    await hand.check()
    assert await hand.entries(job_id) == CHARGED


async def test_refused_after_the_lease_was_lost_ends_it(hand: Hand) -> None:
    job_id = await _lose_the_lease_while_sending(hand, REFUSED)
    assert await hand.status(job_id) == "failed"


async def test_not_sent_after_the_lease_was_lost_queues_it_again(hand: Hand) -> None:
    job_id = await _lose_the_lease_while_sending(hand, NotSent("too late"))
    assert await hand.status(job_id) == "queued"


async def _resolve_while_sending(hand: Hand, answer: object, outcome: str = "void") -> str:
    job_id = await hand.submit()

    async def resolve() -> None:
        await hand.lose_leases()
        assert await hand.resolve(job_id, outcome=outcome) == 200

    hand.fal.answer("submit", answer)
    hand.fal.during["submit"] = resolve
    await hand.begin_sending()
    await rest(hand.rooms.dispatcher.loop)
    hand.fal.during.clear()
    return job_id


@pytest.mark.parametrize(
    "answer", [accepted(), REFUSED, NotSent("no"), RefusedUs(401, "no", None), Unknown("reset", None)], ids=str
)
async def test_no_late_answer_moves_a_job_that_an_admin_has_closed(hand: Hand, answer: object) -> None:
    job_id = await _resolve_while_sending(hand, answer)
    job = await hand.job(job_id)
    assert (job["status"], job["error"]["code"], job["charged_usd"]) == ("failed", "unconfirmed", "0.00")
    assert await hand.entries(job_id) == FREE


async def test_a_stray_is_cancelled_at_fal_and_its_bill_is_booked_once_as_overage(hand: Hand) -> None:
    job_id = await _resolve_while_sending(hand, accepted("stray"))
    await hand.follow_strays()
    assert ("cancel", "stray") in hand.fal.calls
    assert await hand.entries(job_id) == FREE
    hand.fal.answer("status", DONE)
    await hand.follow_strays()
    for _ in range(3):
        await hand.follow_strays()
    assert await hand.entries(job_id) == [*FREE, ("overage", "1.40", None)]
    assert (await hand.job(job_id))["charged_usd"] == "1.40"
    assert hand.fal.count("result") == 1


async def test_a_stray_that_fal_did_not_bill_costs_nothing_and_is_followed_no_longer(hand: Hand) -> None:
    job_id = await _resolve_while_sending(hand, accepted("stray"))
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", failed(499, canceled=True))
    for _ in range(3):
        await hand.follow_strays()
    assert await hand.entries(job_id) == FREE
    assert hand.fal.count("cancel") == 1


async def test_a_stray_followed_by_two_replicas_at_once_is_booked_once(hand: Hand) -> None:
    job_id = await _resolve_while_sending(hand, accepted("stray"))

    async def let_another_replica_follow() -> None:
        hand.fal.during.clear()
        hand.rooms.strays._following.clear()
        hand.fal.answer("status", DONE)
        await hand.sql("UPDATE attempts SET stray_check_at = now() WHERE stray_check_at IS NOT NULL")
        await hand.rooms.strays._turn(10)
        await until(lambda: len(hand.rooms.strays.loop._working) == 1)  # the other's work is done, ours is this

    hand.fal.during["status"] = let_another_replica_follow
    hand.fal.answer("status", DONE)
    await hand.follow_strays()
    assert hand.fal.count("result") == 2
    assert await hand.entries(job_id) == [*FREE, ("overage", "1.40", None)]


async def test_a_stray_that_fal_tells_nothing_of_is_given_up_in_the_end(hand: Hand) -> None:
    await _resolve_while_sending(hand, accepted("stray"))
    hand.fal.answer("status", Gone(404), Gone(404))
    await hand.follow_strays()
    assert (await hand.sql("SELECT count(stray_check_at) AS n FROM attempts"))[0]["n"] == 1
    await hand.sql("UPDATE attempts SET sent_at = now() - interval '1 day'")
    await hand.sql("UPDATE jobs SET finished_at = finished_at - interval '1 day'")
    await hand.follow_strays()
    assert (await hand.sql("SELECT count(stray_check_at) AS n FROM attempts"))[0]["n"] == 0
    await hand.sql("UPDATE jobs SET finished_at = finished_at + interval '1 day'")  # the books tell days apart


async def test_an_answer_stored_twice_makes_no_stray_of_the_jobs_own_request(hand: Hand) -> None:
    """The connection broke during COMMIT: nobody knows whether it happened, so it is stored again."""
    job_id = await hand.submit()
    claimed, _ = await claim_queued(
        hand.rooms.wiring.db,
        1,
        lease_seconds=90,
        fal_key_id="the-key",
        most_bytes=1,
        start_seconds=3600,
        now=hand.clock(),
    )
    for _ in range(2):
        await hand.rooms.dispatcher._store(claimed[0], accepted("the-request"))
    await hand.check()
    for _ in range(2):
        await hand.rooms.dispatcher._store(claimed[0], accepted("the-request"))
    assert await hand.status(job_id) == "running"
    assert (await hand.sql("SELECT count(stray_check_at) AS n FROM attempts"))[0]["n"] == 0


async def test_a_fal_request_id_that_another_job_has_is_not_believed(hand: Hand) -> None:
    first, second, third = [await hand.submit(f"boat {n}") for n in range(3)]
    hand.fal.answer("submit", accepted("the-same"), accepted("the-same"), accepted("another"))
    await hand.send()
    assert sorted([await hand.status(job_id) for job_id in (first, second, third)]) == [
        "submitted",
        "submitted",
        "unconfirmed",
    ]


async def test_two_replicas_that_read_the_same_result_settle_once(hand: Hand) -> None:
    job_id = await hand.at_fal("running")

    async def let_another_replica_check() -> None:
        hand.fal.during.clear()
        hand.rooms.tracker._checking.clear()
        hand.fal.answer("status", DONE)
        await hand.begin_checking()
        await until(lambda: len(hand.rooms.tracker.loop._working) == 1)  # the other's work is done, ours is this

    hand.fal.during["status"] = let_another_replica_check
    hand.fal.answer("status", DONE)
    await hand.check()
    assert hand.fal.count("result") == 2
    assert await hand.entries(job_id) == CHARGED


async def test_a_sighting_of_an_attempt_that_is_over_changes_nothing(hand: Hand) -> None:
    job_id = await hand.at_fal()
    old = await claim_followed(hand.rooms.wiring.db, 1, poll_seconds=5)
    await hand.sql("UPDATE jobs SET next_check_at = now()")
    old = old or await claim_followed(hand.rooms.wiring.db, 1, poll_seconds=5)
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", START_DEADLINE)
    await hand.check()
    await hand.send()
    before = await hand.row(job_id)
    moves = hand.rooms.tracker._moves
    assert not await moves.seen(old[0], "running", position=None)
    assert not await moves.unconfirm(old[0], "accepted", was=["submitted", "running"])
    assert not await moves.put_back(old[0], "start_deadline", was=["submitted"], after_seconds=0)
    await moves.check_later(old[0], after_seconds=500)
    assert await hand.row(job_id) == before


async def test_whatever_cannot_be_stored_becomes_unconfirmed_at_the_deadline(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    hand.fal.answer("status", DONE, DONE)
    hand.fal.answer("result", ValueError("cannot be told"), ValueError("cannot be told"))
    await hand.check()
    assert await hand.status(job_id) == "running"
    hand.clock.move(seconds=hand.gateway.wiring.settings.job_deadline_seconds + 1)
    await hand.check()
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_job_that_cannot_be_sent_fails_for_free_and_holds_up_nobody(hand: Hand) -> None:
    poisoned, well = await hand.submit(), await hand.submit()
    hand.fal.answer("submit", ValueError("no request can be made of it"))
    await hand.send()
    assert sorted([await hand.status(poisoned), await hand.status(well)]) == ["failed", "submitted"]


# Trouble: it says nothing about the job


async def _next_check(hand: Hand) -> float:
    rows = await hand.sql("SELECT max(extract(epoch FROM next_check_at - now()))::float8 AS s FROM jobs")
    return float(rows[0]["s"])


async def test_while_fal_does_not_answer_checks_slow_down_to_one_a_minute(hand: Hand) -> None:
    await hand.at_fal("running")
    waits = []
    for _ in range(30):
        hand.fal.answer("status", Trouble("User is locked", 403))
        await hand.check()
        waits.append(await _next_check(hand))
    assert waits[0] < 20
    assert all(later > earlier - 1 for earlier, later in pairwise(waits))
    assert 59 < waits[-1] <= 60
    await hand.check()  # fal answers again
    assert await _next_check(hand) <= 15


async def test_retry_after_of_a_read_is_heeded_up_to_a_minute(hand: Hand) -> None:
    await hand.at_fal("running")
    for asked, at_least, at_most in ((40, 39, 40), (86400, 59, 60)):
        hand.fal.answer("status", Trouble("busy", 429, asked))
        await hand.check()
        assert at_least < await _next_check(hand) <= at_most


async def test_trouble_with_a_result_keeps_the_job(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    for _ in range(5):
        hand.fal.answer("status", DONE)
        hand.fal.answer("result", Trouble("Bad Gateway", 502))
        await hand.check()
        assert await hand.status(job_id) == "running"
    hand.fal.answer("status", DONE)
    await hand.check()
    assert await hand.entries(job_id) == CHARGED

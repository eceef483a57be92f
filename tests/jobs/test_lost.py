"""Lost answers: each clause of the evidence rule, over a real database and a request list that tests script."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from app.fal import InProgress, NotSent, Trouble, Unknown
from app.jobs.at_fal.claims import Claimed, claim_followed
from app.jobs.unknown.lost_rows import claim_endpoints, queue_again
from tests.jobs.hand import START_DEADLINE, TEXT, Hand, accepted
from tests.jobs.test_table import CHARGED, DONE, FREE

SETTLED = 3600 + 3600 + 600  # START_SECONDS + JOB_DEADLINE_SECONDS + UNCONFIRMED_SECONDS
IMAGE = "data:image/png;base64,AAAA"


@pytest.fixture
def hand(swept_hand: Hand) -> Hand:
    """One database for all of them: none leaves a job to the next."""
    return swept_hand


async def absent_twice(hand: Hand, job_id: str) -> None:
    """All the evidence there can be: long enough ago, and looked for twice, UNCONFIRMED_SECONDS apart."""
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"
    await hand.age(job_id, seconds=600)
    await hand.look()


# What the list names


async def test_a_lost_answer_found_on_fals_list_goes_on_as_if_nothing_had_happened(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.name("the-request", job_id)
    await hand.look()
    job = await hand.job(job_id)
    assert (job["status"], job["fal_request_id"]) == ("submitted", "the-request")
    hand.fal.answer("status", InProgress(), DONE)
    for _ in range(2):
        await hand.check()
    assert await hand.entries(job_id) == CHARGED
    assert hand.fal.count("submit") == 1
    assert [path.rpartition("/")[0] for path in [(await hand.attempts(job_id))[0]["result_path"]]] == [
        "/fal-ai/kling-video/requests"
    ]


@pytest.mark.parametrize("seconds", [-301, 361])
async def test_a_request_of_another_time_is_not_ours(hand: Hand, seconds: int) -> None:
    job_id = await hand.lose()
    sent_at = (await hand.attempts(job_id))[0]["sent_at"]
    await hand.name("too-far", job_id, sent_at=sent_at + timedelta(seconds=seconds))
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"


@pytest.mark.parametrize("seconds", [-3601, 3661])
async def test_the_input_is_asked_for_only_of_what_could_matter(hand: Hand, seconds: int) -> None:
    job_id = await hand.lose()
    sent_at = (await hand.attempts(job_id))[0]["sent_at"]
    await hand.name("too-far", job_id, sent_at=sent_at + timedelta(seconds=seconds))
    await hand.look()
    assert "too-far" not in hand.fal.list.calls


@pytest.mark.parametrize("minutes", [-59, 60])
async def test_a_like_request_nearly_in_time_speaks_against_sending_again(hand: Hand, minutes: int) -> None:
    """The clocks may be wrong by more than is allowed for a match: another payment would be worse than a wait."""
    job_id = await hand.lose()
    sent_at = (await hand.attempts(job_id))[0]["sent_at"]
    await hand.age(job_id, seconds=SETTLED)
    await hand.name("nearly", job_id, sent_at=sent_at - timedelta(seconds=SETTLED) + timedelta(minutes=minutes))
    for _ in range(3):
        await hand.look()
        await hand.age(job_id, seconds=1)
        await hand.sql("UPDATE attempts SET absent_at = absent_at - interval '1 hour'")
    assert await hand.status(job_id) == "unconfirmed"
    assert hand.fal.count("submit") == 1


@pytest.mark.parametrize("seconds", [-299, 359])
async def test_clocks_may_differ_and_a_post_may_take_its_time(hand: Hand, seconds: int) -> None:
    job_id = await hand.lose()
    sent_at = (await hand.attempts(job_id))[0]["sent_at"]
    await hand.name("near", job_id, sent_at=sent_at + timedelta(seconds=seconds))
    await hand.look()
    assert await hand.status(job_id) == "submitted"


async def test_a_request_with_another_input_is_not_ours(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.name("another", job_id, given={"prompt": "a ship", "duration": "5"})
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"
    await hand.name("ours", job_id)
    await hand.look()
    assert (await hand.job(job_id))["fal_request_id"] == "ours", "and leaves no doubt about ours"


async def test_a_request_of_another_endpoint_is_not_ours(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.name("another", job_id, endpoint="fal-ai/kling-video/v2.1/master/image-to-video")
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_request_that_another_attempt_has_is_never_given_to_a_second_job(hand: Hand) -> None:
    first = await hand.submit()
    hand.fal.answer("submit", accepted("taken"))
    await hand.send()
    second = await hand.lose()
    await hand.name("taken", second)
    await hand.look()
    assert [await hand.status(job_id) for job_id in (first, second)] == ["submitted", "unconfirmed"]
    assert "taken" not in hand.fal.list.calls


async def test_a_request_that_another_attempt_gets_meanwhile_is_left_to_it(
    hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    lost, other = await hand.lose(), await hand.submit("a ship")
    await hand.name("the-request", lost)
    moves = hand.rooms.lost._moves
    accept = moves.accepted

    async def late(job: Any, ref: Any, *, position: int | None) -> bool:
        hand.fal.answer("submit", accepted("the-request"))
        await hand.send()
        return await accept(job, ref, position=position)

    moves.accepted = late  # type: ignore[method-assign]
    await hand.look()
    assert [await hand.status(job_id) for job_id in (lost, other)] == ["unconfirmed", "submitted"]
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_two_equal_jobs_lost_at_once_stay_for_an_admin(hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [await hand.lose(), await hand.lose()]
    await hand.name("one-of-them", jobs[0])
    await hand.look()
    await hand.look()
    assert [await hand.status(job_id) for job_id in jobs] == ["unconfirmed", "unconfirmed"]
    told = [record.getMessage() for record in caplog.records if "/resolve" in record.getMessage()]
    assert len(told) == 1, "said once"
    assert told[0].startswith(f"2 jobs of {TEXT} are unconfirmed")
    boss = await hand.gateway.make_person("admin")
    listed = await hand.gateway.client.get("/v1/jobs?status=unconfirmed", headers=boss.headers)
    assert {job["id"] for job in listed.json()["data"]} == set(jobs)
    answer = await hand.gateway.client.post(
        f"/v1/jobs/{jobs[0]}/resolve", json={"note": "seen on the dashboard", "outcome": "charge"}, headers=boss.headers
    )
    assert answer.status_code == 200
    assert await hand.resolve(jobs[1], outcome="void") == 200, "and so does ADMIN_KEY"


async def test_two_requests_that_fit_one_job_leave_it_for_an_admin(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.name("one", job_id)
    await hand.name("two", job_id)
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"


async def test_two_equal_jobs_far_apart_are_told_apart_by_their_time(hand: Hand) -> None:
    early = await hand.lose()
    await hand.age(early, minutes=30)
    late = await hand.lose()
    await hand.name("early", early)
    await hand.name("late", late)
    await hand.look()
    assert [(await hand.job(job_id))["fal_request_id"] for job_id in (early, late)] == ["early", "late"]


async def test_an_equal_job_that_is_just_being_sent_may_be_the_one_that_is_named(hand: Hand) -> None:
    lost, sending = await hand.lose(), await hand.submit()
    await hand.name("whose", lost)
    hand.fal.during["submit"] = hand.look
    hand.fal.answer("submit", accepted("whose"))
    await hand.send()
    assert [await hand.status(job_id) for job_id in (lost, sending)] == ["unconfirmed", "submitted"]
    assert (await hand.job(sending))["fal_request_id"] == "whose"


async def test_an_equal_job_that_an_admin_has_closed_may_be_the_one_that_is_named(hand: Hand) -> None:
    closed, lost = await hand.lose(), await hand.lose()
    assert await hand.resolve(closed, outcome="void") == 200
    await hand.name("whose", lost)
    await hand.look()
    assert await hand.status(lost) == "unconfirmed"


async def test_an_equal_job_that_was_never_sent_is_no_rival(hand: Hand) -> None:
    lost, refused = await hand.lose(), await hand.submit()
    hand.fal.answer("submit", NotSent("ConnectError"))
    await hand.send()
    assert [attempt["outcome"] for attempt in await hand.attempts(refused)] == ["not_sent"]
    await hand.name("the-request", lost)
    await hand.look()
    assert await hand.status(lost) == "submitted"


async def test_an_image_that_fal_shows_as_a_link_is_matched_by_all_the_rest(hand: Hand) -> None:
    answer = await hand.gateway.client.post(
        "/v1/image-to-video", json={"prompt": "a boat", "image_url": IMAGE}, headers=hand.person.headers
    )
    job_id = answer.json()["id"]
    hand.fal.answer("submit", Unknown("ReadTimeout", None))
    await hand.send()
    await hand.name("the-request", job_id, given={"prompt": "a boat", "image_url": "https://fal.media/files/x.png"})
    await hand.look()
    assert await hand.status(job_id) == "submitted"


async def test_an_input_that_fal_does_not_show_proves_nothing_either_way(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED + 601)
    await hand.name("unknown-input", job_id, given=None)
    for _ in range(3):
        await hand.look()
        await hand.age(job_id, seconds=601)
        await hand.name("unknown-input", job_id, given=None)
    assert await hand.status(job_id) == "unconfirmed"


async def test_what_was_sent_while_the_list_was_read_is_not_mistaken(hand: Hand) -> None:
    """The list names a request of a job that was submitted, and whose answer came, while it was read."""
    lost = await hand.lose()

    async def another() -> None:
        hand.fal.list.during = None
        await hand.submit()
        hand.fal.answer("submit", accepted("of-the-other"))
        await hand.send()
        await hand.name("of-the-other", lost)

    hand.fal.list.during = another
    await hand.look()
    assert await hand.status(lost) == "unconfirmed"
    assert "of-the-other" not in hand.fal.list.calls, "it was known by then"


# What the list does not name


async def test_what_fal_never_had_is_queued_again_on_all_the_evidence_and_made_once(hand: Hand) -> None:
    job_id = await hand.lose()
    before = (await hand.row(job_id))["queued_at"]
    await absent_twice(hand, job_id)
    row = await hand.row(job_id)
    assert (row["status"], row["attempt_id"], row["held_usd"]) == ("queued", None, row["quoted_usd"])
    assert row["queued_at"] > before, "its time in the queue begins anew"
    assert [attempt["outcome"] for attempt in await hand.attempts(job_id)] == ["absent"]
    await hand.send()
    await hand.check()
    hand.fal.answer("status", DONE)
    await hand.check()
    assert await hand.entries(job_id) == CHARGED
    assert hand.fal.count("submit") == 2


async def test_before_all_deadlines_have_passed_absence_says_nothing(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED - 5)
    await hand.look()
    assert (await hand.attempts(job_id))[0]["absent_at"] is None
    await hand.age(job_id, seconds=10)
    await hand.look()
    assert (await hand.attempts(job_id))[0]["absent_at"] is not None
    assert await hand.status(job_id) == "unconfirmed"


async def test_one_absence_is_not_enough_nor_two_too_close_together(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    first = (await hand.attempts(job_id))[0]["absent_at"]
    await hand.age(job_id, seconds=595)
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"
    assert (await hand.attempts(job_id))[0]["absent_at"] == first - timedelta(seconds=595), "the first one counts"
    await hand.age(job_id, seconds=5)
    await hand.look()
    assert await hand.status(job_id) == "queued"


async def test_a_request_that_shows_up_late_begins_the_evidence_anew(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    await hand.age(job_id, seconds=601)
    await hand.name("one", job_id)
    await hand.name("two", job_id)
    await hand.look()
    assert (await hand.attempts(job_id))[0]["absent_at"] is None
    hand.fal.list.named.clear()
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"


async def test_without_a_start_deadline_absence_proves_nothing(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.sql("UPDATE attempts SET start_seconds = NULL")
    await absent_twice(hand, job_id)
    assert await hand.status(job_id) == "unconfirmed"


async def test_the_start_deadline_that_counts_is_the_one_that_was_sent(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.sql("UPDATE attempts SET start_seconds = start_seconds + 700")
    await absent_twice(hand, job_id)
    assert await hand.status(job_id) == "unconfirmed"


async def test_another_keys_list_proves_nothing(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.sql("UPDATE attempts SET fal_key_id = 'another-key'")
    await absent_twice(hand, job_id)
    assert await hand.status(job_id) == "unconfirmed"


async def test_beyond_what_the_list_covers_absence_proves_nothing(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, hours=23)
    for _ in range(2):
        await hand.look()
        await hand.sql("UPDATE attempts SET absent_at = absent_at - interval '11 minutes'")
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_day_later_nobody_asks_any_more(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, hours=26)
    await hand.look()
    assert hand.fal.list.calls == []
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_job_of_which_fal_has_an_earlier_request_is_not_sent_again(hand: Hand) -> None:
    job_id = await hand.lose()
    await _add_attempt(hand, job_id, "accepted")
    await absent_twice(hand, job_id)
    assert await hand.status(job_id) == "unconfirmed"
    assert await hand.cancel(job_id) == 202
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed", "nor canceled for free"


async def test_a_job_that_fal_answered_with_the_id_of_another_request_is_not_sent_again(hand: Hand) -> None:
    hand.fal.answer("submit", accepted("twice"), accepted("twice"))
    await hand.submit("a ship")
    await hand.send()
    job_id = await hand.submit()
    await hand.send()
    assert await hand.status(job_id) == "unconfirmed"
    await absent_twice(hand, job_id)
    assert await hand.status(job_id) == "unconfirmed", "fal had it: an admin must say"


async def test_a_request_ended_by_its_start_deadline_does_not_count(hand: Hand) -> None:
    job_id = await hand.at_fal()
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", START_DEADLINE)
    await hand.check()
    hand.fal.answer("submit", Unknown("ReadTimeout", None))
    await hand.send()
    await absent_twice(hand, job_id)
    assert await hand.status(job_id) == "queued"


async def test_an_unreadable_list_changes_nothing_and_says_so_once(
    hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    await hand.age(job_id, seconds=601)
    before = (await hand.row(job_id), await hand.attempts(job_id))
    hand.fal.list.trouble = Trouble("Bad Gateway", 502)
    for _ in range(2):
        await hand.look()
    after = (await hand.row(job_id), await hand.attempts(job_id))
    assert before[0] | {"next_check_at": None} == after[0] | {"next_check_at": None}
    assert before[1] == after[1]
    said = [record for record in caplog.records if "cannot be read" in record.getMessage()]
    assert [(record.levelno, "Bad Gateway" in record.getMessage()) for record in said] == [(logging.WARNING, True)]
    counted = hand.gateway.wiring.metrics.fal_requests.labels("requests", "Trouble")
    assert counted._value.get() == 2
    hand.fal.list.trouble = None
    await hand.look()
    assert await hand.status(job_id) == "queued"


@pytest.mark.parametrize("is_named", [False, True])
async def test_a_candidate_whose_input_cannot_be_read_changes_nothing(hand: Hand, *, is_named: bool) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    await hand.age(job_id, seconds=601)
    await hand.name("another", job_id, given={"prompt": "a ship"})
    if is_named:
        await hand.name("ours", job_id)
    hand.fal.list.troubles["another"] = Trouble("Bad Gateway", 502)
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_caller_who_cancelled_gets_it_canceled_and_free_on_the_same_evidence(hand: Hand) -> None:
    job_id = await hand.lose()
    assert await hand.cancel(job_id) == 202
    await absent_twice(hand, job_id)
    assert (await hand.job(job_id))["status"] == "canceled"
    assert await hand.entries(job_id) == FREE
    assert (await hand.attempts(job_id))[0]["outcome"] == "absent"
    assert hand.fal.count("submit") == 1


async def test_an_answer_that_comes_while_the_job_is_judged_wins(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    await hand.age(job_id, seconds=601)

    async def answer_late() -> None:
        await hand.sql("UPDATE attempts SET fal_request_id = 'late', outcome = 'accepted'")

    decide = hand.rooms.lost._let_go

    async def late(job: Any) -> bool:
        await answer_late()
        return await decide(job)

    hand.rooms.lost._let_go = late  # type: ignore[method-assign]
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed"


async def test_an_answer_that_is_stored_while_the_job_is_let_go_of_waits_for_nobody(hand: Hand) -> None:
    job_id = await hand.lose()
    row, db = await hand.row(job_id), hand.gateway.wiring.db
    lost = Claimed(job_id=row["id"], attempt_id=row["attempt_id"], checks=0, cancel_requested_at=None)
    async with db.begin_plain() as storing:
        await storing.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", row["id"])
        letting_go = asyncio.create_task(queue_again(db, lost, now=row["created_at"]))
        await waiting_for_locks(hand)
        await storing.execute(
            "UPDATE attempts SET fal_request_id = 'late', outcome = 'accepted' WHERE id = $1", row["attempt_id"]
        )
    assert not await letting_go
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_request_that_arrives_after_all_is_a_stray(hand: Hand) -> None:
    job_id = await hand.lose()
    claimed = hand.rooms.lost._moves
    jobs = await hand.attempts(job_id)
    await absent_twice(hand, job_id)
    await hand.send()

    late = Claimed(job_id=jobs[0]["job_id"], attempt_id=jobs[0]["id"], checks=0, cancel_requested_at=None)
    assert not await claimed.accepted(late, accepted("late").ref, position=None)
    assert (await hand.attempts(job_id))[0]["stray_check_at"] is not None


# Whose turn it is


async def test_an_endpoint_is_asked_about_once_a_minute_whoever_asks(hand: Hand) -> None:
    await hand.lose()
    turns = [await claim_endpoints(hand.gateway.wiring.db, every_seconds=60) for _ in range(2)]
    assert [len(turn) for turn in turns] == [1, 0]
    await hand.lose("another")
    assert await claim_endpoints(hand.gateway.wiring.db, every_seconds=60) == [], "it waits for the others' turn"
    await hand.sql("UPDATE jobs SET next_check_at = now()")
    (turn,) = await claim_endpoints(hand.gateway.wiring.db, every_seconds=60)
    left = await hand.sql("SELECT extract(epoch FROM next_check_at - now())::float8 AS s FROM jobs")
    assert turn.endpoint == TEXT
    assert all(59 < row["s"] <= 60 for row in left)


async def test_two_replicas_that_claim_at_once_ask_once(hand: Hand) -> None:
    for n in range(5):
        await hand.lose(f"boat {n}")
    db = hand.gateway.wiring.db
    for _ in range(20):
        await hand.sql("UPDATE jobs SET next_check_at = now()")
        turns = await asyncio.gather(*(claim_endpoints(db, every_seconds=60) for _ in range(8)))
        assert sum(len(turn) for turn in turns) == 1


async def test_two_replicas_that_judge_the_same_job_send_it_once(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    await hand.age(job_id, seconds=601)
    (asked,) = await _asked(hand)
    await asyncio.gather(*(hand.rooms.lost._decide(asked) for _ in range(4)))
    assert await hand.status(job_id) == "queued"
    assert (await hand.row(job_id))["version"] == 4, "one move"


async def test_the_tracker_leaves_jobs_without_a_fal_request_id_alone(hand: Hand) -> None:
    await hand.lose()
    await hand.sql("UPDATE jobs SET next_check_at = now()")
    assert await claim_followed(hand.gateway.wiring.db, 10, poll_seconds=5) == []


async def test_a_killed_dispatchers_job_is_looked_for_too(hand: Hand) -> None:
    job_id = await hand.submit()
    await hand.sql(
        "WITH a AS (INSERT INTO attempts (id, job_id, sent_at, fal_key_id, start_seconds)"
        " VALUES (gen_random_uuid(), $1, now(), 'the-key', 3600) RETURNING id)"
        " UPDATE jobs SET status = 'submitting', attempt_id = a.id FROM a WHERE jobs.id = $1",
        job_id[4:],
    )
    await hand.lose_leases()
    assert await hand.status(job_id) == "unconfirmed"
    await hand.name("the-request", job_id)
    await hand.look()
    assert await hand.status(job_id) == "submitted"


async def waiting_for_locks(hand: Hand) -> None:
    """Until a statement in this database waits for a lock."""
    blocked = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(500):
        if await hand.sql(blocked):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing waits")


async def _asked(hand: Hand) -> Any:
    await hand.sql("UPDATE jobs SET next_check_at = NULL")
    return await claim_endpoints(hand.gateway.wiring.db, every_seconds=60)


async def _add_attempt(hand: Hand, job_id: str, outcome: str) -> None:
    await hand.sql(
        "INSERT INTO attempts (id, job_id, sent_at, fal_key_id, fal_request_id, outcome)"
        " VALUES (gen_random_uuid(), $1, now() - interval '1 hour', 'the-key', 'earlier', $2)",
        job_id[4:],
        outcome,
    )

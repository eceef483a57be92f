"""`falgate recover`: after a restore nothing is sent before fal has been asked."""

from typing import Any

import pytest

from app.fal import Unknown
from app.jobs.unknown.recover import Recovered, count_of_other_keys, count_others, recover_jobs
from tests.jobs.hand import START_DEADLINE, Hand, accepted
from tests.jobs.test_lost import SETTLED
from tests.jobs.test_table import DONE


@pytest.fixture
def hand(swept_hand: Hand) -> Hand:
    """One database for all of them: none leaves a job to the next."""
    return swept_hand


async def recover(hand: Hand, fal_key_id: str = "the-key") -> Recovered:
    return await recover_jobs(hand.gateway.wiring.db, fal_key_id=fal_key_id, start_seconds=3600)


async def submitting(hand: Hand, prompt: str) -> str:
    job_id = await hand.submit(prompt)
    await hand.sql(
        "WITH a AS (INSERT INTO attempts (id, job_id, sent_at, fal_key_id, start_seconds)"
        " VALUES (gen_random_uuid(), $1, now() - interval '1 minute', 'the-key', 3600) RETURNING id)"
        " UPDATE jobs SET status = 'submitting', attempt_id = a.id, next_check_at = now() FROM a WHERE jobs.id = $1",
        job_id[4:],
    )
    return job_id


async def test_what_was_still_to_be_sent_is_unconfirmed_and_what_fal_has_goes_on(hand: Hand) -> None:
    at_fal = await hand.at_fal("running")
    queued, sending = await hand.submit("a ship"), await submitting(hand, "a raft")
    attempt = (await hand.attempts(sending))[0]["id"]
    assert await recover(hand) == Recovered(queued=1, submitting=1, unconfirmed=0, at_fal=1, under_another_key=False)
    assert [await hand.status(job_id) for job_id in (at_fal, queued, sending)] == [
        "running",
        "unconfirmed",
        "unconfirmed",
    ]
    for job_id in (queued, sending):
        row, (its,) = await hand.row(job_id), await hand.attempts(job_id)
        assert (its["id"], its["outcome"], its["start_seconds"]) == (row["attempt_id"], "recovered", 3600)
        assert its["sent_from"] == row["created_at"] < its["sent_at"], "sent at any time until now"
        assert its["fal_key_id"] == "the-key"
    assert (await hand.attempts(sending))[0]["id"] == attempt, "its webhook names it"
    await hand.send()
    assert hand.fal.count("submit") == 1, "nothing is sent"


async def test_what_fal_has_let_go_of_may_have_been_sent_again_before_the_restore(hand: Hand) -> None:
    job_id = await hand.at_fal()
    await recover(hand)
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", START_DEADLINE)
    await hand.check()
    row = await hand.row(job_id)
    assert (row["status"], row["fal_request_id"]) == ("unconfirmed", None)
    old, new = await hand.attempts(job_id)
    assert (old["outcome"], new["outcome"], new["sent_from"]) == ("start_deadline", "recovered", row["created_at"])
    await hand.send()
    assert hand.fal.count("submit") == 1
    await hand.name("sent-again", job_id, sent_at=row["created_at"])
    await hand.look()
    assert (await hand.job(job_id))["fal_request_id"] == "sent-again"


async def test_without_a_restore_what_fal_let_go_of_is_queued_again(hand: Hand) -> None:
    job_id = await hand.at_fal()
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", START_DEADLINE)
    await hand.check()
    assert await hand.status(job_id) == "queued"


async def test_a_place_in_the_queue_is_no_longer_shown(hand: Hand) -> None:
    job_id = await hand.submit()
    await hand.sql("UPDATE jobs SET queue_position = 3, estimated_start_at = now()")
    await recover(hand)
    row = await hand.row(job_id)
    assert (row["queue_position"], row["estimated_start_at"]) == (None, None)


async def test_the_second_time_moves_no_job_and_the_evidence_begins_anew(hand: Hand) -> None:
    jobs = [await hand.submit(), await submitting(hand, "a raft")]
    await recover(hand)
    before = [(await hand.row(job_id))["attempt_id"] for job_id in jobs]
    for job_id in jobs:
        await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    again = await recover(hand)
    assert (again.queued, again.submitting, again.unconfirmed) == (0, 0, 2)
    assert [(await hand.row(job_id))["attempt_id"] for job_id in jobs] == before
    for job_id in jobs:
        await hand.age(job_id, seconds=601)
    await hand.look()
    assert [await hand.status(job_id) for job_id in jobs] == ["unconfirmed", "unconfirmed"]


async def test_a_job_still_in_doubt_after_an_earlier_restore_may_have_been_sent_after_the_newer_dump(
    hand: Hand,
) -> None:
    job_id = await hand.submit()
    await recover(hand)
    await hand.age(job_id, seconds=SETTLED)  # the newer dump is of now; after it the job was let go of, and sent
    await recover(hand)
    (attempt,) = await hand.sql("SELECT *, now() AS restored_at FROM attempts")
    await hand.name("sent-after-the-newer-dump", job_id, sent_at=attempt["restored_at"])
    await hand.look()
    job = await hand.job(job_id)
    assert (job["status"], job["fal_request_id"]) == ("submitted", "sent-after-the-newer-dump")


async def test_a_recovered_job_that_had_been_sent_goes_on_through_the_list(hand: Hand) -> None:
    job_id = await hand.submit()
    row = await hand.row(job_id)
    await recover(hand)
    await hand.name("sent-after-the-dump", job_id, sent_at=row["created_at"])
    await hand.look()
    job = await hand.job(job_id)
    assert (job["status"], job["fal_request_id"]) == ("submitted", "sent-after-the-dump")


async def test_a_recovered_job_that_had_not_been_sent_is_sent_once_that_is_certain(hand: Hand) -> None:
    job_id = await hand.submit()
    await recover(hand)
    await hand.age(job_id, seconds=SETTLED - 5)
    await hand.look()
    assert (await hand.attempts(job_id))[0]["absent_at"] is None, "it may have been sent until the restore"
    await hand.age(job_id, seconds=5)
    await hand.look()
    await hand.age(job_id, seconds=600)
    await hand.look()
    assert await hand.status(job_id) == "queued"
    await hand.send()
    assert hand.fal.count("submit") == 1


async def test_one_whose_answer_was_lost_before_the_dump_may_have_been_sent_again_since(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.age(job_id, seconds=SETTLED)
    await hand.look()
    assert (await recover(hand)).unconfirmed == 1
    (attempt,) = await hand.attempts(job_id)
    assert (attempt["outcome"], attempt["absent_at"]) == ("recovered", None)
    await hand.age(job_id, seconds=601)
    await hand.look()
    assert await hand.status(job_id) == "unconfirmed", "the evidence begins anew"


async def test_an_attempt_without_a_known_start_deadline_has_none_afterwards(hand: Hand) -> None:
    job_id = await hand.lose()
    await hand.sql("UPDATE attempts SET start_seconds = NULL")
    await recover(hand)
    assert (await hand.attempts(job_id))[0]["start_seconds"] is None


async def test_jobs_sent_under_the_dumps_key_are_not_judged_by_another_keys_list(hand: Hand) -> None:
    await hand.at_fal()
    job_id = await hand.submit("a ship")
    recovered = await recover(hand, fal_key_id="a-new-key")
    assert recovered.under_another_key
    assert (await hand.attempts(job_id))[0]["fal_key_id"] == "the-key"


async def test_ended_jobs_and_cancels_stay_as_they_are(hand: Hand) -> None:
    ended = await hand.submit()
    assert await hand.cancel(ended) == 200
    before: dict[str, Any] = await hand.row(ended)
    lost = await hand.lose("a ship")
    assert await hand.cancel(lost) == 202
    await recover(hand)
    assert await hand.row(ended) == before
    await hand.age(lost, seconds=SETTLED)
    await hand.look()
    await hand.age(lost, seconds=600)
    await hand.look()
    assert await hand.status(lost) == "canceled"


async def test_jobs_in_flight_under_another_key_are_counted(hand: Hand) -> None:
    ended = await hand.submit()
    assert await hand.cancel(ended) == 200
    hand.fal.answer("submit", accepted(), Unknown("ReadTimeout", None))
    for prompt in ("a ship", "a raft"):
        await hand.submit(prompt)
        await hand.send()
    db = hand.gateway.wiring.db
    assert await count_of_other_keys(db, fal_key_id="the-key") == 0
    assert await count_of_other_keys(db, fal_key_id="a-new-key") == 2


async def test_another_falgate_on_the_database_is_seen(hand: Hand) -> None:
    db = hand.gateway.wiring.db
    async with db.plain():
        assert await count_others(db) >= 1

"""Degraded fal is the whole upstream's state: one row, one probe at a time over all replicas, and nothing fails."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.accounts.last_used import LastUsed
from app.fal import Completed, FalError, Gone, NotSent, Refused, RefusedUs, Trouble, Unknown
from app.jobs.at_fal import upstream
from app.jobs.at_fal.ramp import FIRST, Ramp
from app.jobs.rooms import Rooms
from app.settings import Settings
from tests.gateway import run_gateway
from tests.jobs.hand import Hand, rest, until
from tests.sandbox.running import Sandbox

LOST = Unknown("ReadTimeout", None)
REASONS = [
    (RefusedUs(401, "no", None), "key", "FAL_KEY is wrong or revoked"),
    (RefusedUs(403, "User is locked", None), "locked", "top up the balance at fal.ai/dashboard/billing"),
    (RefusedUs(429, "busy", None), "busy", "FAL_CONCURRENCY"),
    (RefusedUs(405, "no", None), "refused", "FAL_QUEUE_URL"),
    (NotSent("ConnectError"), "unreachable", "network, DNS and proxy"),
    (LOST, "broken", "fal's status page"),
]


async def _row(hand: Hand) -> dict[str, Any]:
    return (await hand.sql("SELECT *, extract(epoch FROM probe_after - now())::float8 AS pause_seconds FROM upstream"))[
        0
    ]


async def _queued(hand: Hand, count: int) -> list[str]:
    jobs = [await hand.submit(f"boat {n}") for n in range(count)]
    await hand.sql("UPDATE jobs SET next_check_at = now() WHERE status = 'queued'")
    return jobs


async def _turn(rooms: Rooms) -> None:
    """A turn of a replica's dispatcher as it comes, to its end."""
    await rooms.dispatcher._turn(64)
    await rest(rooms.dispatcher.loop)


async def _let_probe(hand: Hand) -> None:
    await hand.sql("UPDATE upstream SET probe_after = now() WHERE degraded_since IS NOT NULL")


@pytest.fixture
async def hand(hands: Hand) -> AsyncIterator[Hand]:
    """On the module's database: whatever a test leaves is nobody's work afterwards."""
    yield hands
    await hands.sql("UPDATE jobs SET status = 'unconfirmed', next_check_at = NULL WHERE finished_at IS NULL")
    await hands.sql("UPDATE upstream SET degraded_since = NULL, reason = NULL, failures = 0, probe_after = NULL")


@pytest.fixture
async def other(hand: Hand) -> Rooms:
    """Another replica on the same rows, that has looked while all was well."""
    rooms = Rooms(hand.gateway.wiring, LastUsed())
    await rooms.upstream.look()
    return rooms


@pytest.mark.parametrize(("answer", "reason", "words"), REASONS, ids=[reason for _, reason, _ in REASONS])
async def test_the_operator_is_told_once_what_to_do_and_once_that_it_is_over(
    hand: Hand, other: Rooms, caplog: pytest.LogCaptureFixture, answer: object, reason: str, words: str
) -> None:
    jobs = await _queued(hand, 4)
    hand.fal.answer("submit", *[answer] * 3)
    for _ in range(3):
        await hand.send()
        assert (await _row(hand))["reason"] == reason
    await other.upstream.look()
    assert other.upstream.is_degraded
    told = [record for record in caplog.records if record.name == "falgate.upstream"]
    assert len(told) == 1
    assert words in told[0].getMessage()
    await hand.send()
    await other.upstream.look()
    assert not other.upstream.is_degraded
    row = await _row(hand)
    assert (row["degraded_since"], row["reason"], row["failures"], row["probe_after"]) == (None, None, 0, None)
    told = [record for record in caplog.records if record.name == "falgate.upstream"]
    assert len(told) == 2
    assert "takes jobs again" in told[1].getMessage()
    assert "seconds" in told[1].getMessage()
    assert {await hand.status(job_id) for job_id in jobs} <= {"queued", "submitted", "unconfirmed"}


async def test_an_input_that_fal_refuses_shows_that_it_takes_jobs(hand: Hand) -> None:
    await _queued(hand, 2)
    hand.fal.answer("submit", NotSent("no"), Refused(FalError(422, None, "T", "d", retryable=False, body={})))
    await hand.send()
    await hand.send()
    assert (await _row(hand))["reason"] is None


async def test_another_reason_is_told_too(hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    await _queued(hand, 1)
    hand.fal.answer("submit", NotSent("no"), RefusedUs(401, "no", None))
    await hand.send()
    await hand.send()
    assert "cannot be reached" in caplog.text
    assert "FAL_KEY is wrong" in caplog.text


async def test_one_replica_probes_for_all(hand: Hand, other: Rooms) -> None:
    await _queued(hand, 10)
    hand.fal.answer("submit", NotSent("no"))
    await hand.send()
    await other.upstream.look()
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    hand.fal.during["submit"] = wait
    await _let_probe(hand)
    await hand.sql("UPDATE jobs SET next_check_at = now()")
    await asyncio.gather(*(rooms.dispatcher._turn(64) for rooms in (hand.rooms, other) for _ in range(3)))
    await until(lambda: hand.fal.count("submit") == 2)
    gate.set()
    for rooms in (hand.rooms, other):
        await rest(rooms.dispatcher.loop)
    assert hand.fal.count("submit") == 2
    await _turn(other)  # it looks by itself while it thinks that fal is degraded
    assert hand.fal.count("submit") == 2 + FIRST


async def test_a_probe_whose_replica_died_is_followed_by_another_once_its_lease_ends(hand: Hand, other: Rooms) -> None:
    await _queued(hand, 3)
    hand.fal.answer("submit", NotSent("no"))
    await hand.send()
    await hand.sql("UPDATE jobs SET next_check_at = now()")
    hand.fal.during["submit"] = lambda: asyncio.sleep(3600)
    await hand.begin_sending()
    await until(lambda: hand.fal.count("submit") == 2)
    for task in hand.rooms.dispatcher.loop._working:
        task.cancel()
    await rest(hand.rooms.dispatcher.loop)
    hand.fal.during.clear()
    await hand.sql("UPDATE upstream SET probe_after = now() + interval '90 s'")  # the dead give nothing back
    await other.upstream.look()
    await _turn(other)
    assert hand.fal.count("submit") == 2
    await _let_probe(hand)
    await _turn(other)
    assert hand.fal.count("submit") == 3
    assert (await _row(hand))["reason"] is None


async def test_the_lease_of_a_probe_outlasts_its_post(hand: Hand) -> None:
    await _queued(hand, 2)
    hand.fal.answer("submit", NotSent("no"))
    await hand.send()
    seen = []

    async def look() -> None:
        seen.append((await _row(hand))["pause_seconds"])

    hand.fal.during["submit"] = look
    await hand.send()
    assert seen[0] > hand.fal.longest_seconds + 25


async def test_a_submit_costs_no_statement_while_fal_takes_jobs(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    await hand.rooms.upstream.look()
    monkeypatch.setattr(hand.rooms.upstream, "_db", None)
    jobs = await _queued(hand, 6)
    for _ in range(2):
        await _turn(hand.rooms)
    assert [await hand.status(job_id) for job_id in jobs] == ["submitted"] * 6


async def test_what_was_claimed_but_not_sent_is_given_back_when_an_answer_is_lost(hand: Hand) -> None:
    jobs = await _queued(hand, 20)
    hand.fal.answer("submit", *[LOST] * 20)
    await hand.send()  # the first is answered before the others are sent
    statuses = [await hand.status(job_id) for job_id in jobs]
    assert (statuses.count("unconfirmed"), statuses.count("queued")) == (1, 19)
    outcomes = [(await hand.attempts(job_id))[-1]["outcome"] for job_id in jobs]
    assert (outcomes.count("unknown"), outcomes.count("not_sent")) == (1, 19)


async def test_a_fal_that_breaks_at_the_start_loses_few_jobs(hand: Hand) -> None:
    jobs = await _queued(hand, 30)
    hand.fal.during["submit"] = lambda: asyncio.sleep(0.01)  # all are sent before the first answer
    hand.fal.answer("submit", *[LOST] * 30)
    for _ in range(5):
        await _turn(hand.rooms)
    assert [await hand.status(job_id) for job_id in jobs].count("unconfirmed") == FIRST + 1  # one probe at once


@pytest.mark.parametrize(
    ("answer", "longest"), [(NotSent("no"), 5.0), (RefusedUs(401, "no", None), 5.0), (LOST, 60.0)], ids=str
)
async def test_pauses_between_probes_double_up_to_a_limit(hand: Hand, answer: Any, longest: float) -> None:
    await hand.rooms.upstream.look()
    pauses = []
    for _ in range(12):
        leave = await hand.rooms.upstream.leave()
        if leave is None:
            await hand.sql("UPDATE jobs SET next_check_at = now()")
            await _let_probe(hand)
            leave = await hand.rooms.upstream.leave()
        assert leave is not None
        await hand.rooms.upstream.did_not_take(leave, answer)
        pauses.append((await _row(hand))["pause_seconds"])
        if len(pauses) == 1:
            await hand.submit()  # nobody probes with nothing to send
    assert pauses[0] <= 0
    assert 0.2 < pauses[1] < 0.7
    assert pauses[1] < pauses[3]
    assert longest * 0.7 < pauses[-1] <= longest


async def test_retry_after_is_respected_up_to_a_minute(hand: Hand) -> None:
    for asked, at_least in ((30, 28), (86_400, 58)):
        await hand.sql("UPDATE upstream SET degraded_since = NULL, reason = NULL, failures = 0, probe_after = NULL")
        await hand.rooms.upstream.look()
        leave = await hand.rooms.upstream.leave()
        assert leave is not None
        await hand.rooms.upstream.did_not_take(leave, RefusedUs(429, "busy", asked))
        assert at_least < (await _row(hand))["pause_seconds"] <= at_least + 2


async def test_what_was_sent_before_fal_was_back_does_not_count_against_it(hand: Hand) -> None:
    await hand.rooms.upstream.look()
    early = await hand.rooms.upstream.leave()
    assert early is not None
    await hand.rooms.upstream.did_not_take(early, LOST)
    await _queued(hand, 1)
    await _turn(hand.rooms)
    assert (await _row(hand))["reason"] is None
    await hand.rooms.upstream.did_not_take(early, LOST)  # it had hung meanwhile
    assert (await _row(hand))["reason"] is None
    late = await hand.rooms.upstream.leave()
    assert late is not None
    await hand.rooms.upstream.did_not_take(late, LOST)
    assert (await _row(hand))["reason"] == "broken"


async def test_with_nothing_to_send_nobody_takes_the_probe(hand: Hand) -> None:
    await hand.sql("UPDATE upstream SET degraded_since = now(), reason = 'broken', failures = 3, probe_after = now()")
    await _turn(hand.rooms)
    assert (await _row(hand))["pause_seconds"] <= 0


async def test_a_probe_that_cannot_be_sent_is_given_back(hand: Hand) -> None:
    await _queued(hand, 1)
    await hand.sql("UPDATE upstream SET degraded_since = now(), reason = 'broken', failures = 3, probe_after = now()")
    hand.fal.answer("submit", ValueError("no request can be made of it"))
    await _turn(hand.rooms)
    row = await _row(hand)
    assert row["reason"] == "broken"
    assert row["pause_seconds"] <= 1


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Trouble("no", 401), "reads key"),
        (Trouble("User is locked", 403), "reads locked"),
        (Trouble("busy", 429), None),
        (Trouble("HTML", 502), None),
        (Trouble("ReadTimeout"), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("call", ["status", "result"])
async def test_a_read_that_is_refused_because_of_us_degrades_and_a_good_one_ends_that(
    hand: Hand, trouble: Trouble, reason: str | None, call: str
) -> None:
    job_id = await hand.at_fal("running")
    if call == "result":
        hand.fal.answer("status", Completed(None, None))
    hand.fal.answer(call, trouble)
    await hand.check()
    assert (await _row(hand))["reason"] == reason
    assert await hand.status(job_id) == "running"
    await hand.check()
    assert (await _row(hand))["reason"] is None


async def test_a_good_read_does_not_say_that_jobs_are_taken(hand: Hand) -> None:
    await hand.at_fal("running")
    await _queued(hand, 1)
    hand.fal.answer("submit", RefusedUs(403, "User is locked", None))
    await hand.send()
    await hand.check()
    assert (await _row(hand))["reason"] == "locked"


async def test_a_read_under_another_key_says_nothing_of_ours(hand: Hand) -> None:
    await hand.at_fal("running")
    hand.fal.key_id = "another-key"
    hand.fal.answer("status", Trouble("no", 401), Gone(404))
    await hand.check()
    assert (await _row(hand))["reason"] is None


async def test_an_answer_is_stored_though_nobody_could_note_how_fal_is(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = (await _queued(hand, 1))[0]
    hand.fal.answer("submit", LOST)

    async def away(*_: object, **__: object) -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(hand.rooms.upstream, "_failed", away)
    caplog.set_level(logging.WARNING)
    await hand.send()
    assert await hand.status(job_id) == "unconfirmed"


async def test_the_house_is_looked_after_with_how_fal_is(hand: Hand) -> None:
    await hand.sql("UPDATE upstream SET degraded_since = now(), reason = 'broken', probe_after = now()")
    assert not hand.rooms.upstream.is_degraded
    await hand.rooms._keep_house(1)
    assert hand.rooms.upstream.is_degraded


@pytest.mark.usefixtures("impatient")
async def test_while_the_account_is_locked_two_replicas_probe_now_and_then_and_everything_succeeds_afterwards(
    at_sandbox: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "LONGEST_PAUSE_SECONDS", 2.0)
    sandbox.set_fault(call="submit", fault="403-locked")
    async with run_gateway(at_sandbox) as one, run_gateway(at_sandbox) as two:
        ann = await one.make_person()
        jobs = [(await gateway.submit(ann, f"locked <{n}>")).json()["id"] for n in range(12) for gateway in (one, two)]
        await asyncio.sleep(1)
        assert (await one.client.get("/health/ready")).status_code == 200
        assert {(await two.job(ann, job_id))["status"] for job_id in jobs} <= {"queued", "submitting"}
        probes = sandbox.http.get("/_sandbox/state").json()["calls"]["submit"]
        assert 0 < probes < len(jobs)  # each once would be that many already
        sandbox.http.delete("/_sandbox/faults")
        ends = await asyncio.gather(*(one.job(ann, job_id, wait=30) for job_id in jobs))
        assert {job["status"] for job in ends} == {"succeeded"}
    made = [request["input"]["prompt"] for request in sandbox.requests()]  # beside what others left behind
    assert sorted(prompt for prompt in made if prompt.startswith("locked ")) == sorted(
        f"locked <{n}>" for n in range(12) for _ in range(2)
    )


# The ramp


def _round(ramp: Ramp, waiting: int) -> int:
    """Everything that may be sent is, and is taken; how many that were."""
    count = min(waiting, ramp.room)
    fills = count == ramp.room
    ramp.sent(count)
    for _ in range(count):
        if fills:
            ramp.widen()
        ramp.came_back()
    return count


def test_the_ramp_doubles_with_each_round_that_fal_takes_and_begins_anew_when_it_does_not() -> None:
    ramp = Ramp(64)
    assert [_round(ramp, 1000) for _ in range(6)] == [4, 8, 16, 32, 64, 64]
    ramp.narrow()
    assert ramp.room == FIRST


def test_the_ramp_is_no_wider_than_there_was_ever_need_for() -> None:
    ramp = Ramp(64)
    for _ in range(100):
        _round(ramp, 2)
    assert ramp.room == FIRST


def test_after_a_rest_the_ramp_begins_anew_but_not_while_something_is_under_way() -> None:
    ramp = Ramp(64)
    for _ in range(6):
        _round(ramp, 1000)
    ramp.sent(1)
    ramp.rest()
    assert ramp.room == 63
    ramp.came_back()
    ramp.rest()
    assert ramp.room == FIRST


def test_the_words_for_each_reason_are_there() -> None:
    assert set(upstream._WHAT_TO_DO) == {reason for _, reason, _ in REASONS}

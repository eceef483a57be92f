"""Fair release under FAL_CONCURRENCY: who is sent when, counted from rows, by however many replicas."""

import asyncio
import itertools
import random
from collections import Counter
from typing import Any

import pytest

from app import wiring
from app.fal import NotSent, RequestRef, Unknown
from app.jobs.at_fal.claims import claim_queued
from app.jobs.at_fal.release import RELEASE_LOCK, choose
from app.wiring import utc_now
from tests.gateway import run_gateway
from tests.jobs.conftest import settings_at
from tests.jobs.hand import START_DEADLINE, Hand, accepted, rest, succeeded, until
from tests.jobs.slots import DONE, ask, end, in_flight, limited


async def test_no_more_are_sent_than_fal_has_slots(two_slots: Hand) -> None:
    jobs = await ask(two_slots, two_slots.person, 5)
    for _ in range(3):
        await two_slots.send()
    assert await in_flight(two_slots) == jobs[:2]
    await end(two_slots, jobs[1])
    await two_slots.send()
    assert await in_flight(two_slots) == [jobs[0], jobs[2]]


async def test_another_users_first_job_goes_next_however_many_one_user_has_waiting(two_slots: Hand) -> None:
    gateway, hog = two_slots.gateway, two_slots.person
    of_hog = await ask(two_slots, hog, 30)
    await two_slots.send()
    colleague = await gateway.make_person(team_id=hog.team_id)
    stranger = await gateway.make_person()
    of_colleague, of_stranger = await ask(two_slots, colleague, 2), await ask(two_slots, stranger, 2)
    await end(two_slots, of_hog[0])
    await two_slots.send()
    assert await in_flight(two_slots) == [of_hog[1], of_stranger[0]]  # the team with fewest before the user's age
    await end(two_slots, of_hog[1])
    await two_slots.send()
    assert await in_flight(two_slots) == sorted([of_stranger[0], of_colleague[0]])
    await end(two_slots, of_colleague[0])
    await two_slots.send()
    assert await in_flight(two_slots) == sorted([of_stranger[0], of_hog[2]])  # neither has any: age


@pytest.mark.parametrize("same_team", [True, False])
async def test_with_a_single_slot_users_take_turns(database_url: str, *, same_team: bool) -> None:
    async with limited(database_url, 1) as hand:
        hog = await hand.gateway.make_person()
        other = await hand.gateway.make_person(team_id=hog.team_id if same_team else None)
        of_hog = await ask(hand, hog, 6)
        await hand.send()
        of_other = await ask(hand, other, 2)
        for expected in (of_hog[0], of_other[0], of_hog[1], of_other[1], of_hog[2], of_hog[3]):
            assert await in_flight(hand) == [expected]
            await end(hand, expected)
            await hand.send()


async def test_without_a_limit_everything_is_sent_at_once(hand: Hand) -> None:
    await ask(hand, hand.person, 20)
    async with hand.gateway.wiring.db.begin_plain(first=f"SELECT {RELEASE_LOCK}"):
        await asyncio.wait_for(hand.send(), 9)  # and nobody waits for the lock of those who have one
    assert len(await in_flight(hand)) == 20


async def test_cancelling_while_queued_is_free_and_leaves_no_gap(two_slots: Hand) -> None:
    jobs = await ask(two_slots, two_slots.person, 6)
    await two_slots.send()
    assert await two_slots.cancel(jobs[2]) == 200
    canceled = await two_slots.job(jobs[2])
    assert (canceled["status"], canceled["charged_usd"], canceled["held_usd"]) == ("canceled", "0.00", "0.00")
    assert await two_slots.entries(jobs[2]) == [("hold", "1.40", None), ("void", "1.40", None)]
    await end(two_slots, jobs[0])
    await two_slots.send()
    assert await in_flight(two_slots) == [jobs[1], jobs[3]]


async def test_one_that_waited_too_long_holds_no_place(two_slots: Hand) -> None:
    two_slots.clock.move(days=-2)
    (old,) = await ask(two_slots, two_slots.person)
    two_slots.clock.move(days=2)
    jobs = await ask(two_slots, two_slots.person, 3)
    await two_slots.rooms._keep_house(1)
    assert await two_slots.status(old) == "failed"
    await two_slots.send()
    assert await in_flight(two_slots) == jobs[:2]


@pytest.mark.parametrize("outcome", ["not sent", "start deadline"])
async def test_what_comes_back_to_the_queue_is_first_again_among_its_users(two_slots: Hand, outcome: str) -> None:
    jobs = await ask(two_slots, two_slots.person, 5)
    if outcome == "not sent":
        two_slots.fal.answer("submit", NotSent("refused"))
        await two_slots.rooms.dispatcher._turn(1)
        await rest(two_slots.rooms.dispatcher.loop)
    else:
        await two_slots.send()
        two_slots.fal.always["status", (await two_slots.row(jobs[0]))["fal_request_id"]] = DONE
        two_slots.fal.answer("result", START_DEADLINE)
        await two_slots.check()
    assert await two_slots.status(jobs[0]) == "queued"
    for _ in range(2):  # the first may be a probe
        await two_slots.send()
    assert await in_flight(two_slots) == jobs[:2]


async def test_one_that_backs_off_holds_up_nobody(two_slots: Hand) -> None:
    jobs = await ask(two_slots, two_slots.person, 4)
    await two_slots.sql("UPDATE jobs SET next_check_at = now() + interval '1 hour' WHERE id = $1", jobs[0][4:])
    await two_slots.rooms.dispatcher._turn(64)
    await rest(two_slots.rooms.dispatcher.loop)
    assert await in_flight(two_slots) == jobs[1:3]


async def test_a_lost_answer_keeps_no_slot(two_slots: Hand) -> None:
    jobs = await ask(two_slots, two_slots.person, 4)
    two_slots.fal.answer("submit", Unknown("timeout", None), Unknown("timeout", None))
    await two_slots.send()
    await two_slots.send()  # a probe
    assert [await two_slots.status(job_id) for job_id in jobs] == ["unconfirmed"] * 2 + ["queued"] * 2
    await two_slots.send()  # another
    await two_slots.send()
    assert await in_flight(two_slots) == jobs[2:]


async def test_while_fal_refuses_one_at_a_time_is_tried(two_slots: Hand) -> None:
    await ask(two_slots, two_slots.person, 5)
    two_slots.fal.answer("submit", *[NotSent("refused")] * 4)
    for tried in (1, 2, 3):
        await two_slots.send()
        assert two_slots.fal.count("submit") == tried


async def test_large_inputs_are_released_only_as_memory_allows(
    two_slots: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    for _ in range(2):
        body = {"prompt": "a boat", "image_url": f"data:image/png;base64,{'A' * 400}"}
        answer = await two_slots.gateway.client.post("/v1/image-to-video", json=body, headers=two_slots.person.headers)
        jobs.append(answer.json()["id"])
    monkeypatch.setattr("app.jobs.at_fal.dispatch._INPUT_BYTES_AT_ONCE", 500)
    gate = asyncio.Event()
    two_slots.fal.during["submit"] = lambda: _wait(gate)
    await two_slots.begin_sending()
    await two_slots.begin_sending()
    assert [await two_slots.status(job_id) for job_id in jobs] == ["submitting", "queued"]
    gate.set()
    await rest(two_slots.rooms.dispatcher.loop)
    await two_slots.send()
    assert await in_flight(two_slots) == jobs


async def _wait(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_a_free_slot_is_given_at_once_by_the_process_that_saw_the_end(database_url: str) -> None:
    async with limited(database_url, 1) as hand:
        loop = hand.rooms.dispatcher.loop
        loop._rest_seconds = 3600.0  # but for being woken it would never look
        running = asyncio.create_task(loop.run())
        first, _ = await ask(hand, hand.person, 2)
        await until(lambda: hand.fal.count("submit") == 1)
        await rest(loop)
        await end(hand, first)
        await until(lambda: hand.fal.count("submit") == 2)
        await rest(loop)
        await loop.stop(within_seconds=5)
        await running


@pytest.mark.parametrize("seed", range(2))
async def test_no_slot_is_idle_while_something_waits_and_none_is_given_twice(database_url: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    async with limited(database_url, 3) as hand:
        people = [hand.person, await hand.gateway.make_person(team_id=hand.person.team_id)]
        people.append(await hand.gateway.make_person())
        for _ in range(25):
            queued = await hand.sql("SELECT id FROM jobs WHERE status = 'queued' ORDER BY id")
            match chance.choice(["submit", "submit", "cancel", "end", "put back"]):
                case "submit":
                    await ask(hand, chance.choice(people), chance.randint(1, 3))
                case "cancel" if queued:
                    assert await hand.cancel(f"job_{chance.choice(queued)['id'].hex}") == 200
                case "end" if running := await in_flight(hand):
                    await end(hand, *chance.sample(running, chance.randint(1, len(running))))
                case "put back":
                    hand.fal.answer("submit", NotSent("refused"))
            while hand.fal.script["submit"] and await hand.sql("SELECT FROM jobs WHERE status = 'queued'"):
                if len(await in_flight(hand)) == 3:
                    break
                await hand.send()
            await hand.send()
            await hand.send()  # after a failure the first was a probe
            statuses = Counter(row["status"] for row in await hand.sql("SELECT status FROM jobs"))
            flying = statuses["submitted"] + statuses["running"]
            assert flying == min(3, flying + statuses["queued"])


async def test_who_releases_waits_for_another_that_has_not_committed_yet(two_slots: Hand) -> None:
    db = two_slots.gateway.wiring.db
    jobs = await ask(two_slots, two_slots.person, 5)
    async with db.begin_plain(first=f"SELECT {RELEASE_LOCK}") as plain:
        taken = await choose(plain, 64, concurrency=2)
        await plain.execute("UPDATE jobs SET status = 'submitting' WHERE id = ANY($1)", taken)
        await ask(two_slots, await two_slots.gateway.make_person())  # would go before the others
        late = asyncio.create_task(
            claim_queued(
                db,
                64,
                lease_seconds=90,
                fal_key_id="key",
                most_bytes=9,
                start_seconds=60,
                now=utc_now(),
                concurrency=2,
            )
        )
        await asyncio.wait({late}, timeout=0.3)
    claimed, _ = await late
    assert claimed == []
    assert await in_flight(two_slots) == jobs[:2]


class CrowdedFal:
    """A fal for several replicas that counts what it has at once; now and then it cannot be reached."""

    key_id = "the-key"
    longest_seconds = 60.0

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.most = 0
        self.sent: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    async def submit(self, _endpoint: str, body: dict[str, Any], **_more: Any) -> Any:
        number = next(self._numbers)
        self.open.add(name := f"request-{number}")
        self.most = max(self.most, len(self.open))
        await asyncio.sleep(0.002)
        if number % 7 == 0:
            self.open.discard(name)
            return NotSent("refused")
        self.sent[body["prompt"]] += 1
        return accepted(name)

    async def status(self, _ref: RequestRef, **_more: object) -> Any:
        await asyncio.sleep(0.001)
        return DONE

    async def result(self, ref: RequestRef, _completed: Any) -> Any:
        self.open.discard(ref.fal_request_id)
        return succeeded()

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.usefixtures("impatient")
async def test_two_replicas_never_exceed_what_fal_runs_at_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fal = CrowdedFal()
    monkeypatch.setattr(wiring, "Queue", lambda **_: fal)
    limited = settings_at(database_url, "http://127.0.0.1:9", fal_concurrency="3", poll_seconds="0.01")
    async with run_gateway(limited) as one, run_gateway(limited) as other:
        people = [await one.make_person() for _ in range(3)]
        gateways = (one, other)
        answers = await asyncio.gather(
            *(gateways[n % 2].submit(people[n % 3], f"boat <{n}>", headers={"Prefer": "wait=30"}) for n in range(30))
        )
    assert {answer.json()["status"] for answer in answers} == {"succeeded"}
    assert fal.sent == {f"boat <{n}>": 1 for n in range(30)}
    assert fal.most == 3

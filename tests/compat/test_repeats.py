"""Answers that were lost, over raw sockets: the same submit again is told of the job; two answered ones stay two."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.compat import submit as submitting
from app.compat.line import Line
from app.jobs.submits.accept import SubmitOutcome
from app.jobs.submits.request import Submission
from app.jobs.submits.submit import Submits
from tests.gateway import Gateway, Person
from tests.jobs.hand import Clock, until

from .asking import TEXT, jobs_of, remembered, submit

pytestmark = pytest.mark.asyncio(loop_scope="package")


class Gate:
    """In the place of a gateway's Submits: it stops each submit before or after its commit until it is let go."""

    def __init__(self, submits: Submits) -> None:
        self._submits = submits
        self.before, self.after = asyncio.Event(), asyncio.Event()
        self.came, self.committed = asyncio.Event(), asyncio.Event()
        self.calls = 0

    async def submit(self, submission: Submission) -> SubmitOutcome:
        self.calls += 1
        self.came.set()
        await self.before.wait()
        outcome = await self._submits.submit(submission)
        self.committed.set()
        await self.after.wait()
        return outcome


@asynccontextmanager
async def gated(gateway: Gateway) -> AsyncIterator[Gate]:
    repeats = gateway.app.state.repeats
    gate = Gate(repeats._submits)
    repeats._submits, open_ = gate, repeats._submits
    try:
        yield gate
    finally:
        gate.before.set()
        gate.after.set()
        repeats._submits = open_


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """Every line that is listened to."""
    seen: list[Line] = []

    class Known(Line):
        def __init__(self, request: Any) -> None:
            super().__init__(request)
            seen.append(self)

    monkeypatch.setattr(submitting, "Line", Known)
    return seen


@pytest.fixture
def impatient(gateway: Gateway, twin: Gateway) -> Iterator[None]:
    """No answer of another replica's is on its way: nothing is waited for."""
    both = [one.app.state.repeats for one in (gateway, twin)]
    for repeats in both:
        repeats.on_its_way_seconds = 0.0
    yield
    for repeats in both:
        repeats.on_its_way_seconds = 2.0


async def call(gateway: Gateway, person: Person, prompt: str = "a boat") -> asyncio.StreamWriter:
    """A submit on a connection of its own, whose answer nobody reads yet."""
    parsed = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(parsed.hostname, parsed.port)
    body = json.dumps({"prompt": prompt}, separators=(",", ":")).encode()  # as httpx writes it
    head = [
        f"POST /fal/{TEXT} HTTP/1.1", "Host: gateway", f"Authorization: Key {person.secret}",
        "Content-Type: application/json", f"Content-Length: {len(body)}", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(head).encode() + body)
    await writer.drain()
    return writer


async def lose(gateway: Gateway, person: Person, lines: list[Line]) -> None:
    """A submit that is committed, and whose caller hangs up before its answer."""
    async with gated(gateway) as gate:
        gate.before.set()
        writer = await call(gateway, person)
        await gate.committed.wait()
        writer.transport.abort()
        await until(lambda: lines[-1].is_gone)
    await quiet(gateway)


async def quiet(*gateways: Gateway) -> None:
    """Every answer is written, and forgotten if it was heard: a caller may have it a moment before."""
    await until(lambda: not any(one.app.state.repeats._locks for one in gateways))


@pytest.mark.usefixtures("impatient")
async def test_the_same_submit_again_is_told_of_the_job_whose_answer_was_lost(
    gateway: Gateway, ann: Person, lines: list[Line]
) -> None:
    await lose(gateway, ann, lines)
    assert (await jobs_of(gateway, ann), await remembered(gateway, ann)) == (1, 1)
    again = await submit(gateway, ann)
    assert again.headers["idempotent-replayed"] == "true"
    assert await jobs_of(gateway, ann) == 1
    later = await submit(gateway, ann)  # the repeat was answered: this is a second wish for the same
    assert later.json()["request_id"] != again.json()["request_id"]
    await quiet(gateway)
    assert (await jobs_of(gateway, ann), await remembered(gateway, ann)) == (2, 0)


@pytest.mark.usefixtures("impatient")
async def test_an_answer_during_which_its_caller_hangs_up_is_lost(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(Line):
        """There when the answer begins, gone when it has been written."""

        is_gone = True

        async def require_caller(self) -> None:
            """Nobody has hung up yet."""

    with monkeypatch.context() as patched:
        patched.setattr(submitting, "Line", Breaking)
        first = await submit(gateway, ann)
    await quiet(gateway)
    again = await submit(gateway, ann)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["request_id"] == first.json()["request_id"]


@pytest.mark.usefixtures("impatient")
async def test_a_repeat_that_is_lost_too_is_told_of_the_same_job(
    gateway: Gateway, ann: Person, lines: list[Line]
) -> None:
    for _ in range(3):
        await lose(gateway, ann, lines)
    assert (await jobs_of(gateway, ann), await remembered(gateway, ann)) == (1, 1)
    assert (await submit(gateway, ann)).headers["idempotent-replayed"] == "true"


@pytest.mark.usefixtures("impatient")
async def test_another_replica_tells_of_it_too(gateway: Gateway, twin: Gateway, ann: Person, lines: list[Line]) -> None:
    await lose(gateway, ann, lines)
    assert (await submit(twin, ann)).headers["idempotent-replayed"] == "true"
    assert await jobs_of(gateway, ann) == 1


@pytest.mark.usefixtures("impatient")
async def test_what_differs_in_anything_is_no_repeat(gateway: Gateway, ann: Person, lines: list[Line]) -> None:
    await lose(gateway, ann, lines)
    others = [
        await submit(gateway, ann, {"prompt": "another boat"}),
        await submit(gateway, ann, X_End_User="zoe"),
        await submit(gateway, ann, X_Fal_Tags="a=1"),
        await submit(gateway, ann, X_Fal_Request_Start_Timeout="30"),
        await submit(gateway, ann, query="?fal_webhook=https://hooks.example.com/x"),
        await submit(gateway, ann, Idempotency_Key="mine"),
        await submit(gateway, await gateway.make_person(team_id=ann.team_id)),
    ]
    assert not [answer for answer in others if "idempotent-replayed" in answer.headers]
    assert await jobs_of(gateway, ann) == len(others)


async def test_two_answered_equal_submits_stay_two(gateway: Gateway, twin: Gateway, ann: Person) -> None:
    answers = [await submit(one, ann) for one in (gateway, gateway, twin, gateway)]
    assert len({answer.json()["request_id"] for answer in answers}) == 4
    await quiet(gateway, twin)
    assert await remembered(gateway, ann) == 0


async def test_ten_equal_submits_at_once_are_ten_jobs(gateway: Gateway, ann: Person) -> None:
    answers = await asyncio.gather(*(submit(gateway, ann) for _ in range(10)))
    assert len({answer.json()["request_id"] for answer in answers}) == 10
    await quiet(gateway)
    assert (await jobs_of(gateway, ann), await remembered(gateway, ann)) == (10, 0)


async def test_at_two_replicas_as_well(gateway: Gateway, twin: Gateway, ann: Person) -> None:
    answers = await asyncio.gather(*(submit(one, ann) for _ in range(5) for one in (gateway, twin)))
    assert len({answer.json()["request_id"] for answer in answers}) == 10
    await quiet(gateway, twin)
    assert (await jobs_of(gateway, ann), await remembered(gateway, ann)) == (10, 0)


async def test_an_answer_that_is_on_its_way_at_another_replica_is_waited_for(
    gateway: Gateway, twin: Gateway, ann: Person
) -> None:
    async with gated(gateway) as gate, gated(twin) as other:
        gate.before.set()
        other.before.set()
        first = asyncio.create_task(submit(gateway, ann))
        await gate.committed.wait()
        second = asyncio.create_task(submit(twin, ann))
        await other.committed.wait()  # it has found the first, and looks again once it is let go
        gate.after.set()
        await first
        other.after.set()
        answers = [await first, await second]
    assert len({answer.json()["request_id"] for answer in answers}) == 2


async def test_who_hung_up_before_it_was_accepted_has_no_job(gateway: Gateway, ann: Person, lines: list[Line]) -> None:
    async with gated(gateway) as gate:
        first = asyncio.create_task(submit(gateway, ann))
        await gate.came.wait()
        writer = await call(gateway, ann)  # waits for the first
        await until(lambda: len(lines) == 2)
        writer.transport.abort()
        await until(lambda: lines[1].is_gone)
        gate.before.set()
        gate.after.set()
        assert (await first).status_code == 200
        await quiet(gateway)
        assert gate.calls == 1
    assert await jobs_of(gateway, ann) == 1


@pytest.mark.usefixtures("impatient")
async def test_a_crash_between_commit_and_answer_loses_no_job(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def die(*_: object) -> None:
            raise asyncio.CancelledError

        patched.setattr(submitting, "_accepted", die)
        assert (await submit(gateway, ann)).status_code == 503
    again = await submit(gateway, ann)
    assert again.headers["idempotent-replayed"] == "true"
    assert await jobs_of(gateway, ann) == 1


@pytest.mark.usefixtures("impatient")
async def test_after_25_minutes_nobody_repeats(gateway: Gateway, ann: Person, clock: Clock, lines: list[Line]) -> None:
    await lose(gateway, ann, lines)
    clock.move(minutes=24)
    assert (await submit(gateway, ann)).headers["idempotent-replayed"] == "true"
    await lose(gateway, ann, lines)
    clock.move(minutes=26)
    assert "idempotent-replayed" not in (await submit(gateway, ann)).headers
    await quiet(gateway)
    assert (await jobs_of(gateway, ann), await remembered(gateway, ann)) == (3, 0)


@pytest.mark.usefixtures("impatient")
async def test_a_refusal_is_not_remembered(gateway: Gateway, ann: Person) -> None:
    quota = await gateway.set_quota("1.00", scope="user", scope_id=ann.user_id)
    assert (await submit(gateway, ann)).status_code == 402
    await gateway.admin("PATCH", f"/v1/quotas/{quota}", maximum=2)
    assert "idempotent-replayed" not in (await submit(gateway, ann)).headers

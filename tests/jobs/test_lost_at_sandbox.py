"""Lost answers from end to end: a real gateway in front of the sandbox and its request list."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from app.jobs.at_fal import track
from app.jobs.unknown import gone, lost
from app.ledger.audit import audit
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.conftest import settings_at
from tests.sandbox.running import Sandbox

START_SECONDS, DEADLINE_SECONDS, UNCONFIRMED_SECONDS = 60, 60, 60


class Scene:
    """A gateway whose lost answers are looked for all the time."""

    def __init__(self, gateway: Gateway, sandbox: Sandbox, person: Person) -> None:
        self.gateway = gateway
        self.sandbox = sandbox
        self.person = person

    async def lose(self, prompt: str, *, accepted: bool) -> str:
        """A job whose submit's answer is lost; fal has it or has it not."""
        self.sandbox.set_fault(call="submit", fault="reset", times=1, accepted=accepted, prompt=prompt)
        job_id = str((await self.gateway.submit(self.person, prompt)).json()["id"])
        await self.until(lambda: self.was_sent(job_id))
        return job_id

    async def was_sent(self, job_id: str) -> bool:
        """It may be found again at once."""
        return (await self.gateway.job(self.person, job_id))["status"] not in {"queued", "submitting"}

    async def is_(self, job_id: str, status: str) -> bool:
        return bool((await self.gateway.job(self.person, job_id))["status"] == status)

    async def until(self, happened: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(1000):
            if await happened():
                return
            self.gateway.app.state.rooms.lost.loop.wake()
            await asyncio.sleep(0.02)
        raise AssertionError("it never happened")

    async def looks(self, outcome: str = "Listed", *, more: int = 2) -> None:
        """Until the list has been asked so often again."""
        counter = self.gateway.wiring.metrics.fal_requests.labels("requests", outcome)
        seen = counter._value.get()

        async def enough() -> bool:
            return bool(counter._value.get() >= seen + more)

        await self.until(enough)

    async def age(self, by: timedelta) -> None:
        async with self.gateway.wiring.db.plain() as plain:
            await plain.execute("UPDATE attempts SET sent_at = sent_at - $1::interval, absent_at = absent_at - $1", by)

    def list_lags(self, seconds: float) -> None:
        assert self.sandbox.http.post("/_sandbox/list", json={"lag_seconds": seconds}).status_code == 200


@pytest.fixture
async def scene(database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(lost, "EVERY_SECONDS", 0.05)
    settings = settings_at(
        database_url,
        sandbox.url,
        fal_api_url=f"{sandbox.url}/v1",
        start_seconds=str(START_SECONDS),
        job_deadline_seconds=str(DEADLINE_SECONDS),
        unconfirmed_seconds=str(UNCONFIRMED_SECONDS),
    )
    async with run_gateway(settings) as gateway:
        made = Scene(gateway, sandbox, await gateway.make_person())
        made.list_lags(0)
        yield made
        made.list_lags(0)
        assert await audit(gateway.wiring.db, zone=settings.zone) == []


async def test_an_answer_lost_after_acceptance_goes_on_through_the_list(scene: Scene) -> None:
    job_id = await scene.lose("a boat", accepted=True)
    await scene.until(lambda: scene.is_(job_id, "succeeded"))
    job = await scene.gateway.job(scene.person, job_id)
    (request,) = scene.sandbox.requests()
    assert (job["fal_request_id"], job["charged_usd"]) == (request["request_id"], "1.40")


async def test_two_equal_jobs_lost_at_once_both_stay(scene: Scene) -> None:
    scene.list_lags(10_000_000)
    jobs = [await scene.lose("a boat", accepted=True), await scene.lose("a boat", accepted=True)]
    scene.list_lags(0)
    await scene.looks()
    assert [await scene.is_(job_id, "unconfirmed") for job_id in jobs] == [True, True]
    await scene.age(timedelta(hours=3))
    await scene.looks()
    assert len(scene.sandbox.requests()) == 2


async def test_a_submit_that_never_reached_fal_is_queued_again_on_the_evidence_and_made_once(scene: Scene) -> None:
    job_id = await scene.lose("a boat", accepted=False)
    assert scene.sandbox.requests() == []
    await scene.looks()
    await scene.age(timedelta(seconds=START_SECONDS + DEADLINE_SECONDS + UNCONFIRMED_SECONDS))
    await scene.looks()
    assert await scene.is_(job_id, "unconfirmed"), "one look is no evidence, nor two too close together"
    await scene.age(timedelta(seconds=UNCONFIRMED_SECONDS))
    await scene.until(lambda: scene.is_(job_id, "succeeded"))
    assert len(scene.sandbox.requests()) == 1


async def test_while_the_list_lags_the_job_waits_and_nothing_is_sent_twice(scene: Scene) -> None:
    scene.list_lags(10_000_000)
    job_id = await scene.lose("a boat", accepted=True)
    await scene.looks()
    assert await scene.is_(job_id, "unconfirmed")
    scene.list_lags(0)
    await scene.until(lambda: scene.is_(job_id, "succeeded"))
    assert len(scene.sandbox.requests()) == 1


@pytest.mark.parametrize("fault", ["500", "502-html", "truncated", "403-locked", "429", "reset"])
async def test_while_the_list_is_down_nothing_changes(scene: Scene, fault: str) -> None:
    scene.sandbox.set_fault(call="list", fault=fault)
    jobs = {prompt: await scene.lose(prompt, accepted=prompt == "had") for prompt in ("had", "never was")}
    await scene.age(timedelta(hours=3))
    await scene.looks("Trouble")
    assert all([await scene.is_(job_id, "unconfirmed") for job_id in jobs.values()])
    await scene.age(-timedelta(hours=3))
    scene.sandbox.http.delete("/_sandbox/faults")
    await scene.until(lambda: scene.is_(jobs["had"], "succeeded"))
    assert len(scene.sandbox.requests()) == 1


async def test_one_among_many_on_the_second_page_is_found(scene: Scene) -> None:
    scene.sandbox.set_fault(call="list", fault="500")
    job_id = await scene.lose("a boat", accepted=True)
    for n in range(120):
        scene.sandbox.start(f"of somebody else with our key {n}")
    scene.sandbox.http.delete("/_sandbox/faults")
    await scene.until(lambda: scene.is_(job_id, "succeeded"))


async def test_what_fals_queue_has_forgotten_ends_as_its_list_says(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "_LONGEST_TROUBLE_SECONDS", 0.05)
    monkeypatch.setattr(gone, "GONE_AGAIN_AFTER", timedelta(0))
    scene.sandbox.set_fault(call="status", fault="404")
    answer: Any = await scene.gateway.submit(scene.person, "a boat")
    await scene.until(lambda: scene.is_(answer.json()["id"], "succeeded"))
    job = await scene.gateway.job(scene.person, answer.json()["id"])
    assert job["output"]["video"]["url"]
    assert job["charged_usd"] == "1.40"

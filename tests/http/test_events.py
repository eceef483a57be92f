"""`GET /v1/jobs/{id}/events`: the job at once, then at each change, closed after its end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.jobs.reads import hub
from tests.gateway import Gateway, Person
from tests.sandbox.running import Sandbox

from .world import NOBODYS, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")


class Stream:
    """An open event stream, read line by line."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.retry: list[str] = []
        self.comments = 0
        self.log: list[dict[str, Any]] = []
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next event's id and Job; None when the stream is closed."""
        event: dict[str, str] = {}
        async for line in self._lines:
            if not line and event.keys() >= {"data"}:
                if event["event"] == "job":
                    return event["id"], json.loads(event["data"])
                assert event.keys() == {"event", "data"}
                assert event["event"] == "log"
                self.log.append(json.loads(event["data"]))
                event = {}
            name, _, value = line.partition(":")
            if line.startswith(":"):
                self.comments += 1
            elif name == "retry":
                self.retry.append(value.strip())
            elif line:
                event[name] = value.strip()
        return None

    async def rest(self) -> list[tuple[str, dict[str, Any]]]:
        events = []
        while (event := await asyncio.wait_for(self.next(), 20)) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def follow(gateway: Gateway, person: Person, job_id: str, **headers: str) -> AsyncIterator[Stream]:
    path = f"/v1/jobs/{job_id}/events"
    async with gateway.client.stream("GET", path, headers=person.headers | headers) as answer:
        yield Stream(answer)


async def test_each_change_is_told_and_the_end_closes_the_stream(working: Gateway, fal: Sandbox) -> None:
    ann = await working.make_person()
    fal.set_clock(speed=0)
    try:
        job_id = (await working.submit(ann, prompt="a boat to follow")).json()["id"]
        async with follow(working, ann, job_id) as stream:
            assert stream.answer.headers["content-type"].startswith("text/event-stream")
            assert stream.answer.headers["cache-control"] == "no-store"
            assert stream.answer.headers["x-accel-buffering"] == "no"
            assert stream.answer.headers["x-request-id"].startswith("req_")
            events = [await until(stream, "submitted")]
            (request,) = fal.requests(prompt="a boat to follow")
            fal.move(request["request_id"], "IN_PROGRESS")
            events.append(await until(stream, "running"))
            fal.move(request["request_id"], "COMPLETED")
            events += await stream.rest()
            assert stream.retry == ["3000"]
            listed = await working.client.get(f"/v1/jobs/{job_id}/logs", headers=ann.headers)
            assert stream.log == listed.json()["data"]
            assert [line["message"] for line in stream.log][:1] == ["Rendering: 0%"]
    finally:
        fal.set_clock(speed=100)
    versions = [int(event_id) for event_id, _ in events]
    assert versions == sorted(set(versions))
    assert [job["version"] for _, job in events] == versions
    assert [job["status"] for _, job in events] == ["submitted", "running", "succeeded"]
    varying = {"content_url": None}  # a link of its own each time
    assert events[-1][1] | varying == await working.job(ann, job_id) | varying


async def until(stream: Stream, status: str) -> tuple[str, dict[str, Any]]:
    """The first event in which the job has this status."""
    while (event := await asyncio.wait_for(stream.next(), 10)) is not None:
        if event[1]["status"] == status:
            return event
    raise AssertionError(status)


async def test_the_job_is_told_at_once(gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.app.state.rooms.hub, "is_deaf", False)  # it would look again after 15 s only
    job = (await gateway.submit(ann)).json()
    async with follow(gateway, ann, job["id"]) as stream:
        assert await asyncio.wait_for(stream.next(), 5) == ("1", job)
        canceled = await gateway.client.post(f"/v1/jobs/{job['id']}/cancel", headers=ann.headers)
        assert await asyncio.wait_for(stream.next(), 5) == ("2", canceled.json())
        assert await asyncio.wait_for(stream.next(), 5) is None


async def test_what_the_model_wrote_comes_again_to_who_comes_again(working: Gateway) -> None:
    ann = await working.make_person()
    job_id = (await working.submit(ann)).json()["id"]
    await working.job(ann, job_id, wait=30)
    for _ in range(2):
        async with follow(working, ann, job_id) as stream:
            assert len(await stream.rest()) == 1
            assert stream.log[0]["message"] == "Rendering: 0%"


async def test_an_ended_job_is_told_once(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    for last_seen in ({}, {"Last-Event-ID": "1"}, {"Last-Event-ID": "x"}, {"Last-Event-ID": "3"}):
        async with follow(gateway, ann, job_id, **last_seen) as stream:
            assert [(event_id, job["status"]) for event_id, job in await stream.rest()] == [("2", "canceled")]


async def test_who_has_seen_the_end_is_told_to_stop_asking(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    async with follow(gateway, ann, job_id, **{"Last-Event-ID": "1"}) as stream:
        assert stream.answer.status_code == 200
        assert await stream.next() is not None
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    async with follow(gateway, ann, job_id, **{"Last-Event-ID": "2"}) as stream:
        assert stream.answer.status_code == 204
        assert stream.answer.headers["x-request-id"].startswith("req_")
        assert await stream.answer.aread() == b""


async def test_silence_is_broken_by_comments(gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "REREAD_SECONDS", 0.1)
    monkeypatch.setattr(gateway.app.state.rooms.hub, "is_deaf", False)
    job_id = (await gateway.submit(ann)).json()["id"]
    async with follow(gateway, ann, job_id) as stream:
        await stream.next()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.next(), 0.6)
        assert 1 <= stream.comments <= 6


async def test_a_comment_comes_every_fifteen_seconds() -> None:
    assert hub.REREAD_SECONDS == 15


async def test_news_that_got_lost_is_found_by_looking_again(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "REREAD_SECONDS", 0.2)
    monkeypatch.setattr(gateway.app.state.rooms.hub, "is_deaf", False)
    job_id = (await gateway.submit(ann)).json()["id"]
    async with follow(gateway, ann, job_id) as stream:
        await stream.next()
        async with gateway.wiring.db.plain() as plain:
            await plain.execute("UPDATE jobs SET version = 7 WHERE id = $1", job_id.removeprefix("job_"))
        event = await asyncio.wait_for(stream.next(), 6)
        assert event is not None
        assert event[0] == "7"


async def test_a_key_revoked_meanwhile_ends_the_stream(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "REREAD_DEAF_SECONDS", 0.1)
    monkeypatch.setattr(gateway.app.state.rooms.hub, "is_deaf", True)
    job_id = (await gateway.submit(ann)).json()["id"]
    async with follow(gateway, ann, job_id) as stream:
        await stream.next()
        await gateway.admin("DELETE", f"/v1/keys/{ann.key_id}")
        assert await asyncio.wait_for(stream.next(), 6) is None


async def test_after_a_revoked_key_no_change_is_told(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    made = await gateway.admin("POST", "/v1/keys", name="another", user_id=ann.user_id)
    async with follow(gateway, ann, job_id) as stream:
        await stream.next()
        await gateway.admin("DELETE", f"/v1/keys/{ann.key_id}")
        other = {"Authorization": f"Bearer {made['secret']}"}
        assert (await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=other)).status_code == 200
        assert await asyncio.wait_for(stream.next(), 6) is None


async def test_a_client_that_leaves_leaves_nothing_behind(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    waiting = gateway.app.state.rooms.hub._waiting
    async with follow(gateway, ann, job_id) as stream:
        await stream.next()
        assert len(waiting) == 1
    for _ in range(100):
        if not waiting:
            break
        await asyncio.sleep(0.01)
    assert not waiting


async def test_what_is_not_yours_streams_nothing(gateway: Gateway, ann: Person) -> None:
    bob = await gateway.make_person()
    job_id = (await gateway.submit(ann)).json()["id"]
    for person, asked in ((bob, job_id), (ann, f"job_{NOBODYS}"), (ann, "x")):
        answer = await gateway.client.get(f"/v1/jobs/{asked}/events", headers=person.headers)
        refusal(answer, 404, "not-found")

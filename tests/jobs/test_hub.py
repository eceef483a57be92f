"""News of jobs between replicas: told by NOTIFY, re-read where it is lost."""

import asyncio
import json
import logging
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.db import Database
from app.jobs.reads import hub as hub_module
from app.jobs.reads.hub import CHANNEL, Hub
from app.settings import Settings
from tests.gateway import run_gateway
from tests.jobs.hand import by_hand, until

HANGS_AFTER_SECONDS = 30


async def _start(hub: Hub) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(hub.listen_for_ever()), asyncio.create_task(hub.tell_for_ever())]
    await asyncio.sleep(0)
    return tasks


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_news_of_many_jobs_reach_another_replica(db: Database) -> None:
    here, there = Hub(db), Hub(db)
    tasks = await _start(here) + await _start(there)
    await until(lambda: not there.is_deaf)
    jobs = [uuid4() for _ in range(500)]
    async with there.watching(jobs[0]) as first, there.watching(jobs[-1]) as last:
        here.announce(jobs)
        await asyncio.wait_for(asyncio.gather(first.wait(), last.wait()), HANGS_AFTER_SECONDS)
    await _stop(tasks)


async def test_a_waiting_caller_hears_of_an_end_at_another_replica(at_sandbox: Settings) -> None:
    async with run_gateway(at_sandbox, work=True) as working, run_gateway(at_sandbox, work=False) as answering:
        tasks = await _start(answering.app.state.rooms.hub)
        await until(lambda: not answering.app.state.rooms.hub.is_deaf)
        ann = await working.make_person()
        job = await answering.client.post(
            "/v1/text-to-video", json={"prompt": "a boat"}, headers=ann.headers | {"Prefer": "wait=10"}
        )
        assert (job.status_code, job.json()["status"]) == (200, "succeeded")
        await _stop(tasks)


async def test_news_that_is_lost_is_read_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "REREAD_SECONDS", 0.3)
    async with by_hand(settings) as hand:
        hand.rooms.hub.is_deaf = False
        job_id = await hand.submit()
        read, reads = hand.rooms.reader.read, []

        async def counted(asked: Any) -> Any:
            seen = await read(asked)
            reads.append(seen)
            return seen

        monkeypatch.setattr(hand.rooms.reader, "read", counted)
        waiting = asyncio.create_task(hand.gateway.job(hand.person, job_id, wait=60))
        await until(lambda: bool(reads))
        async with hand.gateway.wiring.db.plain() as plain:  # nobody announces it
            await plain.execute(
                "UPDATE jobs SET status = 'succeeded', finished_at = now(), charged_usd = 0 WHERE id = $1",
                job_id[4:],
            )
        job = await asyncio.wait_for(waiting, HANGS_AFTER_SECONDS)
        assert job["status"] == "succeeded"
        await hand.sql("UPDATE jobs SET status = 'queued', finished_at = NULL, charged_usd = NULL")


async def test_a_stream_does_not_miss_an_end_between_its_first_read_and_its_watch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "REREAD_SECONDS", 3600.0)  # what it misses, it never learns
    async with by_hand(settings) as hand:
        hand.rooms.hub.is_deaf = False
        job_id = await hand.submit()
        read, reads = hand.rooms.reader.read, []

        async def read_then_cancel(asked: Any) -> Any:
            seen = await read(asked)
            reads.append(seen)
            if len(reads) == 1:
                assert await hand.cancel(job_id) == 200
            return seen

        monkeypatch.setattr(hand.rooms.reader, "read", read_then_cancel)
        streaming = hand.gateway.client.get(f"/v1/jobs/{job_id}/events", headers=hand.person.headers)
        stream = await asyncio.wait_for(streaming, HANGS_AFTER_SECONDS)
        told = [json.loads(line[5:])["status"] for line in stream.text.splitlines() if line.startswith("data:")]
        assert told == ["queued", "canceled"]


async def test_until_it_hears_itself_a_hub_is_deaf_and_waits_are_short(db: Database) -> None:
    hub = Hub(db)
    assert hub.reread_seconds == 1.0
    tasks = await _start(hub)
    await until(lambda: not hub.is_deaf)
    assert hub.reread_seconds == 15.0
    await _stop(tasks)


async def test_a_pooler_that_swallows_notify_is_warned_of_once(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub_module, "_HEARD_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "_LISTEN_AGAIN_SECONDS", 0.05)
    hellos: list[object] = []
    monkeypatch.setattr(Hub, "_heard", lambda *_: hellos.append(1))
    hub = Hub(db)
    with caplog.at_level(logging.WARNING):
        tasks = await _start(hub)
        await until(lambda: len(hellos) > 3)
        await _stop(tasks)
    assert hub.is_deaf
    assert len([r for r in caplog.records if "NOTIFY does not come through" in r.message]) == 1


async def test_a_lost_listening_connection_wakes_whoever_waits_and_is_made_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_RECONNECT_SECONDS", 0.02)
    hub, job_id, connect, may_connect = Hub(db), uuid4(), db.connect, asyncio.Event()
    tasks = await _start(hub)
    await until(lambda: not hub.is_deaf)

    async def connect_later() -> Any:
        await may_connect.wait()
        return await connect()

    monkeypatch.setattr(db, "connect", connect_later)
    async with hub.watching(job_id) as news:
        async with db.plain() as plain:
            await plain.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_notify%'"
            )
        await asyncio.wait_for(news.wait(), HANGS_AFTER_SECONDS)  # before it listens again
        assert hub.reread_seconds == 1.0
        may_connect.set()
        await until(lambda: not hub.is_deaf)
        news.clear()
        hub.announce([job_id])
        await asyncio.wait_for(news.wait(), HANGS_AFTER_SECONDS)
    await _stop(tasks)


@pytest.mark.parametrize("error", [OSError("away"), ValueError("odd"), RuntimeError("odder")])
async def test_no_error_ends_the_telling_or_the_listening(
    db: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(hub_module, "_RECONNECT_SECONDS", 0.02)
    hub, connect, plain = Hub(db), db.connect, db.plain

    failures = []

    def fail() -> None:
        failures.append(1)
        raise error

    monkeypatch.setattr(db, "connect", fail)
    monkeypatch.setattr(db, "plain", fail)
    tasks = await _start(hub)
    hub.announce([uuid4()])
    await until(lambda: len(failures) > 3)
    monkeypatch.setattr(db, "connect", connect)
    monkeypatch.setattr(db, "plain", plain)
    await until(lambda: not hub.is_deaf)
    heard: list[str] = []
    connection = await db.connect()
    await connection.add_listener(CHANNEL, lambda *given: heard.append(str(given[3])))
    hub.announce([job_id := uuid4()])
    await until(lambda: any(job_id.hex in message for message in heard))
    await connection.close()
    await _stop(tasks)


async def test_a_message_that_is_none_of_ours_is_passed_over(db: Database) -> None:
    hub = Hub(db)
    for message in ("", "hello", "1234 x", UUID(int=1).hex, None):
        hub._heard(None, 1, CHANNEL, message)

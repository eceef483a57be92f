"""Forgetting by hand. What was asked and made is nowhere; what it cost stays."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.fal import Completed, LogLine
from app.jobs.at_fal.log_keeping import LogKeeper, _News
from app.jobs.forgetting.forget import forget_jobs
from app.settings import Settings
from tests.conftest import settings_for
from tests.deliveries.receiver import Receiver, answer, receiving
from tests.gateway import ADMIN, Gateway, run_gateway
from tests.http.world import PNG, find_in_rows
from tests.jobs.conftest import settings_at
from tests.jobs.forgotten import PROMPT, URL, ended, made
from tests.jobs.hand import Hand, by_hand, failed, rest, until
from tests.jobs.test_lost import waiting_for_locks
from tests.sandbox.running import Sandbox


@pytest.fixture
def hand(swept_hand: Hand) -> Hand:
    """One database for all of them: none leaves a job to the next."""
    return swept_hand


async def write_everywhere(hand: Hand, job_id: str) -> None:
    """What its prompt and its video's URL may stand in, beside the job's own input and output."""
    told, attempt = json.dumps({"body": {"detail": f"{PROMPT} {URL}"}}), (await hand.row(job_id))["attempt_id"]
    await hand.sql("UPDATE jobs SET fal_reply = $2::text::json WHERE id = $1", job_id[4:], told)
    await hand.sql("INSERT INTO job_logs VALUES ($1, 0, '', 'INFO', 'USER', $2)", job_id[4:], f"{PROMPT} {URL}")
    await hand.sql("INSERT INTO payloads VALUES ($1, $2::text::json)", job_id[4:], told)
    await hand.sql("INSERT INTO fal_webhooks VALUES ($1, $2, 'x', $3::text::json, now())", attempt, job_id[4:], told)


async def test_neither_prompt_nor_video_stands_anywhere_afterwards_and_the_money_does(hand: Hand) -> None:
    job_id = await made(hand, webhook_url="https://hooks.example.com/", tags={"film": "boat"}, end_user="visitor 1")
    await write_everywhere(hand, job_id)
    before, entries = await hand.job(job_id), await hand.entries(job_id)
    places = {"jobs", "deliveries", "job_logs", "payloads", "fal_webhooks"}
    for needle in (PROMPT, URL):
        assert set(await find_in_rows(hand.gateway, needle)) == places
    assert await hand.forget(job_id) == 204
    for needle in (PROMPT, URL):
        assert await find_in_rows(hand.gateway, needle) == []
    job = await hand.job(job_id)
    erased = {"input": None, "output": None, "expires_at": None, "content_url": None}
    erased |= {"payload_erased_at": job["payload_erased_at"]}
    assert job == before | erased | {"version": before["version"] + 1}
    assert job["payload_erased_at"] is not None
    assert (job["charged_usd"], job["tags"], job["end_user"]) == ("1.40", {"film": "boat"}, "visitor 1")
    assert await hand.entries(job_id) == entries
    for call, status in (("", 404), ("/status", 200)):
        at_fal = f"/fal/fal-ai/kling-video/requests/{job_id}{call}"
        answered = await hand.gateway.client.get(at_fal, headers=hand.person.headers)
        assert answered.status_code == status, answered.text
    listed = await hand.gateway.client.get("/v1/jobs?limit=1", headers=hand.person.headers)
    assert listed.json()["data"] == [job]


async def test_an_error_keeps_what_it_is_called_and_loses_what_it_said(hand: Hand) -> None:
    job_id = await hand.at_fal(prompt=PROMPT)
    hand.fal.answer("status", Completed("no", "content_policy_violation"))
    hand.fal.answer("result", failed(422, type_="content_policy_violation"))
    await hand.check()
    await hand.sql(
        "UPDATE jobs SET error = (error::jsonb || jsonb_build_object('detail', $2::text))::json WHERE id = $1",
        job_id[4:],
        f"we do not draw {PROMPT}",
    )
    before = (await hand.job(job_id))["error"]
    assert PROMPT in before["detail"]
    assert await hand.forget(job_id) == 204
    assert (await hand.job(job_id))["error"] == before | {"detail": "It was erased with the input."}
    assert await find_in_rows(hand.gateway, PROMPT) == []


async def test_only_what_has_ended_is_erased_and_once(hand: Hand) -> None:
    job_id = await hand.submit(PROMPT)
    path, mine = f"/v1/jobs/{job_id}/payload", hand.person.headers
    for status in ("queued", "submitting", "submitted", "running", "unconfirmed"):
        await hand.sql("UPDATE jobs SET status = $2 WHERE id = $1", job_id[4:], status)
        refused = await hand.gateway.client.delete(path, headers=mine)
        assert (refused.status_code, refused.json()["code"]) == (409, "job-not-ended")
        assert refused.json()["job_status"] == status
    await hand.sql("UPDATE jobs SET status = 'queued' WHERE id = $1", job_id[4:])
    assert (await hand.job(job_id))["input"]["prompt"] == PROMPT
    assert await hand.cancel(job_id) == 200
    assert await hand.forget(job_id) == 204
    erased = await hand.job(job_id)
    hand.clock.move(hours=1)
    assert await hand.forget(job_id) == 204
    assert await hand.job(job_id) == erased
    log = (await hand.gateway.client.get(f"/v1/audit-log?object_id={job_id}", headers=ADMIN)).json()["data"]
    assert [(entry["action"], entry["actor"]) for entry in log] == [
        ("job.payload_erased", f"{hand.person.user_id}/{hand.person.key_id}")
    ]
    assert [log[0]["before"], log[0]["after"].keys()] == [None, {"payload_erased_at"}]


async def test_two_at_once_erase_once(hand: Hand) -> None:
    job_id = await ended(hand, days_ago=0)
    assert await asyncio.gather(*(hand.forget(job_id) for _ in range(5))) == [204] * 5
    assert (await hand.sql("SELECT count(*) FROM audit_log WHERE object_id = $1", job_id)) == [{"count": 1}]


async def test_finance_erases_its_own_jobs_only(hand: Hand) -> None:
    finance, job_id = await hand.gateway.make_person("finance"), await ended(hand, days_ago=0)
    path = f"/v1/jobs/{job_id}/payload"
    assert (await hand.gateway.client.delete(path, headers=finance.headers)).json()["code"] == "role-forbidden"
    await hand.sql("UPDATE jobs SET user_id = $2 WHERE id = $1", job_id[4:], finance.user_id[5:])
    assert (await hand.gateway.client.delete(path, headers=finance.headers)).status_code == 204


async def test_asking_again_with_its_idempotency_key_gives_the_erased_job(hand: Hand) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "headers": {"Idempotency-Key": str(uuid4())}}
    job_id = (await hand.gateway.submit(hand.person, **asked)).json()["id"]
    await hand.cancel(job_id)
    await hand.forget(job_id)
    again = await hand.gateway.submit(hand.person, **asked)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert (again.json()["id"], again.json()["input"]) == (job_id, None)


async def test_a_line_that_is_kept_while_its_job_is_erased_does_not_stay(hand: Hand) -> None:
    """Its statement began before the erasing was committed."""
    job_id, wiring = await ended(hand, days_ago=0), hand.gateway.wiring
    uuid, keeper = UUID(job_id[4:]), LogKeeper(wiring, hand.rooms.hub)
    news = _News(uuid, 0, [LogLine(PROMPT, "INFO", "USER", None)])
    async with wiring.db.begin_plain() as plain:
        assert await forget_jobs(plain, [uuid], wiring=wiring, now=hand.clock()) == [uuid]
        keeping = asyncio.create_task(keeper._write([news]))
        await waiting_for_locks(hand)
    assert await keeping == [False]
    assert await find_in_rows(hand.gateway, PROMPT) == []


# Deliveries


@pytest.fixture
def private(database_url: str) -> Settings:
    return settings_for(database_url, WEBHOOK_ALLOW_PRIVATE="true")


async def told(hand: Hand, job_id: str) -> tuple[dict[str, Any], int]:
    """Its delivery, and the answer to asking for it again."""
    client, mine = hand.gateway.client, hand.person.headers
    (delivery,) = (await client.get(f"/v1/deliveries?job_id={job_id}", headers=mine)).json()["data"]
    again = await client.post(f"/v1/deliveries/{delivery['id']}/redeliver", headers=mine)
    assert again.status_code != 409 or again.json()["code"] == "delivery-erased"
    return delivery, again.status_code


async def turn_sender(hand: Hand) -> None:
    await hand.rooms.sender._turn(150)
    await rest(hand.rooms.sender.loop)


async def test_what_is_being_told_meanwhile_is_told_no_more(private: Settings) -> None:
    async with by_hand(private) as hand, receiving() as receiver:
        pending = await made(hand, webhook_url=receiver.url)
        assert await hand.forget(pending) == 204
        await turn_sender(hand)
        assert receiver.received == []
        delivery, again = await told(hand, pending)
        assert (delivery["status"], delivery["error"]) == ("failed", "erased before it was delivered")
        assert again == 409
        delivered = await made(hand, webhook_url=receiver.url)
        await turn_sender(hand)
        assert await hand.forget(delivered) == 204
        delivery, again = await told(hand, delivered)
        assert (delivery["status"], delivery["error"], again) == ("delivered", None, 409)
        await _erase_while_it_is_tried(hand, receiver)
        await turn_sender(hand)
        assert len(receiver.received) == 2, "the one delivered, and the one whose try was under way"
        assert await find_in_rows(hand.gateway, PROMPT) == []


async def _erase_while_it_is_tried(hand: Hand, receiver: Receiver) -> None:
    answering = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await answering.wait()
        await answer(200)(writer)

    receiver.then(slowly)
    job_id, before = await made(hand, webhook_url=receiver.url), len(receiver.received)
    await hand.rooms.sender._turn(150)
    await until(lambda: len(receiver.received) == before + 1)
    assert await hand.forget(job_id) == 204
    answering.set()
    await rest(hand.rooms.sender.loop)
    delivery, again = await told(hand, job_id)
    assert (delivery["status"], delivery["response_status"], again) == ("failed", None, 409)


# At a fal of one's own


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def none_left(gateway: Gateway, what: str) -> None:
    """Wait until no such row is left."""
    for _ in range(1000):
        async with gateway.wiring.db.plain() as plain:
            if not await plain.fetchval(f"SELECT count(*) FROM {what}"):  # noqa: S608  ours
                return
        await asyncio.sleep(0.02)
    raise AssertionError(what)


async def test_in_the_archive_and_at_the_sandbox_nothing_is_left_either(
    database_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    more = {"FAL_API_URL": f"{sandbox.url}/v1", "FAL_ADMIN_KEY": "an-admin-of-fal:its-secret"}
    more |= {"FAL_REST_URL": sandbox.url, "OUTPUT_STORE": str(tmp_path)}
    async with run_gateway(settings_at(database_url, sandbox.url, **more)) as gateway:
        ann = await gateway.make_person()
        body = {"prompt": PROMPT, "image_url": PNG}
        headers = ann.headers | {"Prefer": "wait=20"}
        job = (await gateway.client.post("/v1/image-to-video", json=body, headers=headers)).json()
        assert job["status"] == "succeeded"
        url = job["output"]["video"]["url"]
        sent = await asyncio.to_thread(sandbox.requests)
        assert [request["input"]["prompt"] for request in sent] == [PROMPT]
        await none_left(gateway, "outputs WHERE stored_at IS NULL")
        assert [path.suffix for path in files_in(tmp_path)] == [".mp4"]
        gone = await gateway.client.delete(f"/v1/jobs/{job['id']}/payload", headers=ann.headers)
        assert gone.status_code == 204
        assert files_in(tmp_path) == []
        content = await gateway.client.get(f"/v1/jobs/{job['id']}/content", headers=ann.headers)
        assert content.status_code == 410
        await none_left(gateway, "erasures WHERE erased_at IS NULL")
        assert [request["erased"] for request in await asyncio.to_thread(sandbox.requests)] == [True]
        shown = json.dumps(await asyncio.to_thread(sandbox.requests))
        for needle in (PROMPT, url, "base64"):
            assert needle not in shown
            assert await find_in_rows(gateway, needle) == []
        assert (await asyncio.to_thread(sandbox.http.head, url)).status_code == 404

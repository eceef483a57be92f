"""The delivery is of the transaction that ends the job, whoever ended it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.deliveries.outbox import count_pending
from app.fal import Completed, Refused
from app.jobs.ends import causes, ending
from app.jobs.ends.ending import end_jobs
from tests.conftest import FAL_KEY, SECRET_KEY
from tests.deliveries.conftest import Office
from tests.jobs.hand import failed, until


async def only_told(office: Office) -> dict[str, Any]:
    """What the only delivery tells."""
    (row,) = await office.hand.sql("SELECT * FROM deliveries WHERE status = 'pending'")
    told: dict[str, Any] = json.loads(row["body"])
    assert row["type"] == told["type"]
    assert row["url"] == office.receiver.url
    assert told["data"] == await office.hand.job(told["data"]["id"]) | {"content_url": None}
    await office.turn()
    assert json.loads(office.receiver.received[-1].body) == told
    return told


async def test_a_success_tells_what_it_made_and_what_it_cost(office: Office) -> None:
    await office.hand.submit(webhook_url=office.receiver.url)
    await office.hand.send()
    assert await office.hand.sql("SELECT 1 FROM deliveries WHERE status = 'pending'") == []
    office.hand.fal.answer("status", Completed(None, None))
    await office.hand.check()
    told = await only_told(office)
    assert (told["type"], told["data"]["status"]) == ("job.succeeded", "succeeded")
    assert (told["data"]["charged_usd"], told["data"]["held_usd"]) == ("1.40", "0.00")
    assert told["data"]["output"]["video"]["url"]
    assert "webhook_url" not in told["data"]


async def test_what_fal_refuses_and_what_fails_there_is_told(office: Office) -> None:
    job_id = await office.hand.at_fal()
    await office.hand.sql("UPDATE jobs SET webhook_url = $2 WHERE id = $1", job_id[4:], office.receiver.url)
    office.hand.fal.answer("status", Completed(None, None))
    office.hand.fal.answer("result", failed(422))
    await office.hand.check()
    told = await only_told(office)
    assert (told["type"], told["data"]["error"]["fal"]["status"]) == ("job.failed", 422)
    assert told["data"]["charged_usd"] == "0.00"
    office.hand.fal.answer("submit", Refused(failed(400).error))
    await office.hand.submit(webhook_url=office.receiver.url)
    await office.hand.send()
    assert (await only_told(office))["data"]["error"]["fal"]["status"] == 400


async def test_a_cancel_while_queued_is_told_and_an_image_by_its_digest_only(office: Office) -> None:
    image = "data:image/png;base64," + "A" * 400
    answer = await office.hand.gateway.client.post(
        "/v1/image-to-video",
        json={"prompt": "x", "image_url": image, "webhook_url": office.receiver.url},
        headers=office.hand.person.headers,
    )
    await office.hand.cancel(answer.json()["id"])
    told = await only_told(office)
    assert told["type"] == "job.canceled"
    assert told["data"]["input"]["image_url"].startswith("data:image/png;bytes=300;sha256=")


async def test_one_that_waited_too_long_and_one_that_an_admin_resolves_are_told(office: Office) -> None:
    job_id = await office.hand.submit(webhook_url=office.receiver.url)
    office.hand.clock.move(days=2)
    await office.hand.rooms._keep_house(1)
    office.hand.clock.move(days=-2)
    assert (await only_told(office))["data"]["id"] == job_id
    job_id = await office.hand.submit(webhook_url=office.receiver.url)
    await office.hand.send()
    await office.hand.sql("UPDATE jobs SET status = 'unconfirmed' WHERE id = $1", job_id[4:])
    office.sender.loop._wake.clear()
    assert await office.hand.resolve(job_id, outcome="charge") == 200
    assert office.sender.loop._wake.is_set()
    told = await only_told(office)
    assert (told["type"], told["data"]["error"]["code"]) == ("job.failed", "unconfirmed")


async def test_the_sender_is_woken_after_the_commit_and_only_when_there_is_something_to_send(office: Office) -> None:
    office.sender.loop._wake.clear()
    await office.hand.cancel(await office.hand.submit())
    assert not office.sender.loop._wake.is_set()
    assert await office.hand.sql("SELECT 1 FROM deliveries WHERE status = 'pending'") == []
    await office.end_job()
    assert office.sender.loop._wake.is_set()
    async with office.hand.gateway.wiring.db.plain() as plain:
        assert await count_pending(plain) == 1
    await office.turn()
    async with office.hand.gateway.wiring.db.plain() as plain:
        assert await count_pending(plain) == 0


async def test_an_end_that_is_rolled_back_leaves_no_delivery(office: Office) -> None:
    job_id = await office.hand.submit(webhook_url=office.receiver.url)
    wiring = office.hand.gateway.wiring
    mine = causes.canceled_while_queued((await office.hand.row(job_id))["id"], by="a test")

    async def end_then_fail() -> None:
        async with wiring.db.begin_plain() as plain:
            ended = await end_jobs(plain, [mine], wiring=wiring, now=datetime.now(UTC))
            assert [one.has_delivery for one in ended.values()] == [True]
            assert await plain.fetchval("SELECT count(*) FROM deliveries WHERE job_id = $1", mine.job_id) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await end_then_fail()
    assert await office.hand.sql("SELECT 1 FROM deliveries WHERE job_id = $1", mine.job_id) == []
    assert await office.hand.status(job_id) == "queued"
    await office.hand.cancel(job_id)


async def test_a_delivery_that_cannot_be_written_leaves_the_job_open(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await office.hand.submit(webhook_url=office.receiver.url)

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(ending, "store_deliveries", fail)
        assert await office.hand.cancel(job_id) == 500
    assert await office.hand.status(job_id) == "queued"
    await office.hand.cancel(job_id)
    assert (await only_told(office))["data"]["id"] == job_id


async def test_a_running_gateway_sends_it_by_itself(office: Office) -> None:
    office.hand.fal.answer("status", Completed(None, None))
    await office.hand.submit(webhook_url=office.receiver.url)
    await office.hand.send()
    await office.hand.sql("UPDATE jobs SET next_check_at = now() WHERE next_check_at IS NOT NULL")
    office.hand.rooms.start()
    await until(lambda: len(office.receiver.received) == 1)


async def test_no_secret_stands_in_a_row_a_log_line_an_error_or_a_repr(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    office.receiver.then(lambda writer: writer.write(b"nonsense"))  # type: ignore[arg-type, return-value]
    await office.end_job()
    claimed = await office.sender._claim(1, office.sender._lane)
    await office.turn_later()
    secret = await office.secret()
    await office.ask("POST", "/v1/me/webhook-secret/rotate")
    raw = secret.removeprefix("whsec_")
    answers = [json.dumps(await office.deliveries())]
    document = (await office.hand.gateway.client.get("/openapi.json")).text
    shown = [caplog.text, repr(claimed), repr(office.sender), repr(vars(office.sender)), *answers, document]
    for needle in (raw, SECRET_KEY, FAL_KEY):
        assert not [text for text in shown if needle in text]
        tables = await office.hand.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for table in tables:
            count = f'SELECT count(*) FROM "{table["tablename"]}" t WHERE strpos(t::text, $1) > 0'  # noqa: S608
            assert await office.hand.sql(count, needle) == [{"count": 0}], table
    sealed = await office.hand.sql("SELECT sealed FROM webhook_secrets")
    assert len(sealed) >= 2
    assert not [one for one in sealed if raw.encode() in one["sealed"]]

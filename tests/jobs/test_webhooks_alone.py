"""A gateway that fal reaches, in front of the sandbox: jobs end through webhooks, without being polled."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from app.ledger.audit import audit
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.conftest import settings_at
from tests.sandbox.running import Sandbox


@pytest.fixture
def told(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, whose webhooks go well again afterwards."""
    yield sandbox
    sandbox.http.delete("/_sandbox/webhooks")


@pytest.fixture
async def gateway(database_url: str, told: Sandbox) -> AsyncIterator[Gateway]:
    """Asks by itself only every five minutes; fal can tell it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = settings_at(
            database_url,
            told.url,
            fal_rest_url=told.url,
            public_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            poll_seconds="300",
        )
        async with run_gateway(settings, listener=listener) as running:
            yield running
            assert await audit(running.wiring.db, zone=settings.zone) == []


async def _end(gateway: Gateway, person: Person, prompt: str) -> dict[str, Any]:
    job_id = (await gateway.submit(person, prompt)).json()["id"]
    return await gateway.job(person, job_id, wait=30)


async def _kinds(gateway: Gateway, job: dict[str, Any]) -> list[str]:
    async with gateway.wiring.db.plain() as plain:
        rows = await plain.fetch("SELECT kind FROM entries WHERE job_id = $1 ORDER BY booked_at, id", job["id"][4:])
    return [row["kind"] for row in rows]


async def test_jobs_end_through_webhooks_alone_however_they_end(gateway: Gateway) -> None:
    ann = await gateway.make_person()
    assert (await _end(gateway, ann, "a boat"))["status"] == "succeeded"  # now our account is known
    ends = {
        "a boat": ("succeeded", "1.40"),
        "a boat [bare-webhook]": ("succeeded", "1.40"),
        "a boat [requeue]": ("succeeded", "1.40"),
        "a boat [zero-units]": ("succeeded", "0.00"),
        "a boat [late-answer]": ("succeeded", "1.40"),
        "a boat [lost]": ("succeeded", "1.40"),
        "a boat [lost-502]": ("succeeded", "1.40"),
        "a boat [cut]": ("succeeded", "1.40"),
        "a boat [refuse]": ("failed", "0.00"),
        "a boat [refuse-billed]": ("failed", "1.40"),
        "a boat [500]": ("failed", "0.00"),
    }
    jobs = await asyncio.gather(*(_end(gateway, ann, prompt) for prompt in ends))
    assert {prompt: (job["status"], job["charged_usd"]) for prompt, job in zip(ends, jobs, strict=True)} == ends
    for job in jobs:
        assert await _kinds(gateway, job) == ["hold", "void" if job["charged_usd"] == "0.00" else "settle"]
    async with gateway.wiring.db.plain() as plain:
        assert await plain.fetchval("SELECT count(*) FROM fal_webhooks") == 0


async def test_the_same_webhook_from_ten_connections_settles_once(gateway: Gateway, told: Sandbox) -> None:
    assert told.http.post("/_sandbox/webhooks", json={"copies": 10}).status_code == 200
    ann = await gateway.make_person()
    jobs = await asyncio.gather(*(_end(gateway, ann, f"boat {n}") for n in range(5)))
    for job in jobs:
        assert job["status"] == "succeeded"
        assert await _kinds(gateway, job) == ["hold", "settle"]


async def test_webhooks_signed_for_another_account_end_nothing(gateway: Gateway, told: Sandbox) -> None:
    ann = await gateway.make_person()
    await _end(gateway, ann, "a boat")
    ours = (await _some_try(told))["user_id"]
    told.http.post("/_sandbox/account", json={"user_id": "github|666"})
    try:
        job_id = (await gateway.submit(ann, "a boat")).json()["id"]
        for _ in range(500):
            tries = told.http.get("/_sandbox/webhooks").json()["tries"]
            if (codes := {each["status_code"] for each in tries if each["user_id"] != ours}) == {401}:
                break
            await asyncio.sleep(0.02)
        assert codes == {401}
        assert (await gateway.job(ann, job_id))["finished_at"] is None
    finally:
        told.http.post("/_sandbox/account", json={"user_id": ours})


async def _some_try(told: Sandbox) -> dict[str, Any]:
    """A job may end before the sandbox has heard the answer to its webhook."""
    for _ in range(500):
        if tries := told.http.get("/_sandbox/webhooks").json()["tries"]:
            break
        await asyncio.sleep(0.02)
    return dict(tries[-1])


async def test_without_public_url_fal_is_asked_for_no_webhook(database_url: str, told: Sandbox) -> None:
    async with run_gateway(settings_at(database_url, told.url, fal_rest_url=told.url)) as gateway:
        assert (await _end(gateway, await gateway.make_person(), "a boat"))["status"] == "succeeded"
    assert [request["webhook"] for request in told.requests()] == [None]
    assert told.http.get("/_sandbox/webhooks").json()["webhooks"] == []

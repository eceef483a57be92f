"""`POST /v1/jobs/{id}/cancel` and an admin's `resolve`."""

import asyncio
from typing import Any

import pytest

from tests.gateway import ADMIN, Gateway, Person
from tests.sandbox.running import Sandbox

from .world import NOBODYS, faults, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def set_status(gateway: Gateway, job_id: str, status: str) -> None:
    """Put a queued job where only fal could."""
    async with gateway.wiring.db.plain() as plain:
        await plain.execute("UPDATE jobs SET status = $2 WHERE id = $1", job_id.removeprefix("job_"), status)


async def cancel(gateway: Gateway, person: Person, job_id: str) -> tuple[int, dict[str, Any]]:
    answer = await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=person.headers)
    return answer.status_code, answer.json()


async def test_a_queued_job_is_canceled_at_once_and_free(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota("1.40", scope="user", scope_id=ann.user_id)
    job_id = (await gateway.submit(ann)).json()["id"]
    status, job = await cancel(gateway, ann, job_id)
    assert (status, job["status"], job["held_usd"], job["charged_usd"]) == (200, "canceled", "0.00", "0.00")
    assert job["finished_at"] is not None
    assert (job["error"]["code"], job["error"]["retryable"]) == ("canceled", False)
    (await schema_of(gateway, "Job")).validate(job)
    assert await gateway.job(ann, job_id) == job
    assert (await gateway.submit(ann)).status_code == 202


async def test_cancelling_again_is_the_same_answer(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    first = await cancel(gateway, ann, job_id)
    async with nothing_written(gateway):
        assert await cancel(gateway, ann, job_id) == first


async def test_of_ten_who_cancel_at_once_all_are_told_and_one_entry_is_written(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    answers = await asyncio.gather(*(cancel(gateway, ann, job_id) for _ in range(10)))
    assert {status for status, _ in answers} == {200}
    entries = await gateway.client.get(f"/v1/jobs/{job_id}/entries", headers=ann.headers)
    assert [entry["kind"] for entry in entries.json()["data"]] == ["void", "hold"]


@pytest.mark.parametrize("status", ["submitting", "submitted", "running", "unconfirmed"])
async def test_what_fal_has_is_asked_of_fal(gateway: Gateway, ann: Person, status: str) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    await set_status(gateway, job_id, status)
    code, job = await cancel(gateway, ann, job_id)
    assert (code, job["status"], job["version"], job["held_usd"]) == (202, status, 2, "1.40")
    assert job["cancel_requested_at"] is not None
    assert job["finished_at"] is None
    assert await cancel(gateway, ann, job_id) == (202, job)


async def test_a_running_job_ends_canceled(working: Gateway, fal: Sandbox) -> None:
    ann = await working.make_person()
    job_id = (await working.submit(ann, prompt="[hang] to be cancelled")).json()["id"]
    for _ in range(500):
        if (await working.job(ann, job_id))["status"] == "running":
            break
        await asyncio.sleep(0.02)
    status, job = await cancel(working, ann, job_id)
    assert status == 202
    assert job["cancel_requested_at"] is not None
    ended = await working.job(ann, job_id, wait=20)
    assert (ended["status"], ended["held_usd"], ended["error"]["code"]) == ("canceled", "0.00", "canceled")
    assert (await cancel(working, ann, job_id)) == (200, ended)
    assert fal.requests(prompt="to be cancelled")


async def test_what_has_ended_cannot_be_canceled(working: Gateway) -> None:
    ann = await working.make_person()
    for prompt, status in (("a boat", "succeeded"), ("[refuse]", "failed")):
        job = (await working.submit(ann, prompt=prompt, headers={"Prefer": "wait=20"})).json()
        assert job["status"] == status
        answer = await working.client.post(f"/v1/jobs/{job['id']}/cancel", headers=ann.headers)
        assert refusal(answer, 409, "job-ended")["job_status"] == status
        assert await working.job(ann, job["id"]) == job


async def test_a_cancel_takes_no_body_and_minds_none(gateway: Gateway, ann: Person) -> None:
    for content in (b"", b"{}", b"nonsense", b"x" * 3_000_000):
        job_id = (await gateway.submit(ann)).json()["id"]
        answer = await gateway.client.post(f"/v1/jobs/{job_id}/cancel", content=content, headers=ann.headers)
        assert answer.status_code == 200


async def resolve(gateway: Gateway, job_id: str, headers: dict[str, str] = ADMIN, **body: Any) -> Any:
    return await gateway.client.post(f"/v1/jobs/{job_id}/resolve", json=body, headers=headers)


@pytest.mark.parametrize(
    ("body", "charged"),
    [
        ({"outcome": "charge"}, "1.40"),
        ({"outcome": "charge", "amount_usd": "0.70"}, "0.70"),
        ({"outcome": "charge", "amount_usd": 2}, "2.00"),
        ({"outcome": "charge", "amount_usd": "0.000000001"}, "0.000000001"),
        ({"outcome": "void"}, "0.00"),
    ],
)
async def test_an_admin_says_what_became_of_an_unconfirmed_job(
    gateway: Gateway, ann: Person, body: dict[str, Any], charged: str
) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    await set_status(gateway, job_id, "unconfirmed")
    answer = await resolve(gateway, job_id, **body, note="fal's bill of May")
    job = answer.json()
    assert answer.status_code == 200
    assert (job["status"], job["error"]["code"], job["charged_usd"], job["held_usd"]) == (
        "failed", "unconfirmed", charged, "0.00",
    )  # fmt: skip
    (await schema_of(gateway, "Job")).validate(job)
    entries = (await gateway.client.get(f"/v1/jobs/{job_id}/entries", headers=ann.headers)).json()["data"]
    assert (entries[0]["by"], entries[0]["note"]) == ("ADMIN_KEY", "fal's bill of May")
    log = await gateway.admin("GET", f"/v1/audit-log?object_id={job_id}")
    assert [(row["action"], row["actor"]) for row in log["data"]] == [("job.resolved", "ADMIN_KEY")]
    assert log["data"][0]["after"]["charged_usd"] == charged
    assert await gateway.job(ann, job_id) == job
    refusal(await resolve(gateway, job_id, outcome="void", note="again"), 409, "job-ended")


@pytest.mark.parametrize("status", ["queued", "submitting", "submitted", "running"])
async def test_what_is_still_followed_is_not_resolved(gateway: Gateway, ann: Person, status: str) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    await set_status(gateway, job_id, status)
    async with nothing_written(gateway):
        refusal(await resolve(gateway, job_id, outcome="void", note="x"), 409, "job-not-unconfirmed")


async def test_no_resolution_is_guessed(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    await set_status(gateway, job_id, "unconfirmed")
    right: dict[str, Any] = {"outcome": "charge", "note": "x"}
    async with nothing_written(gateway):
        for wrong, pointers in (
            ({"outcome": "refund", "note": ""}, {"/outcome", "/note"}),
            (right | {"note": None}, {"/note"}),
            (right | {"note": "x" * 1001}, {"/note"}),
            (right | {"note": "a\0b"}, {"/note"}),
            (right | {"amount_usd": 0.7}, {"/amount_usd"}),
            (right | {"amount_usd": "-0.01"}, {"/amount_usd"}),
            (right | {"amount_usd": "1e3"}, {"/amount_usd"}),
            (right | {"amount_usd": "1" * 12}, {"/amount_usd"}),
            (right | {"outcome": "void", "amount_usd": "1"}, {"/amount_usd"}),
            (right | {"nonsense": 1}, {"/nonsense"}),
            ({}, {"/outcome", "/note"}),
        ):
            assert set(faults(await resolve(gateway, job_id, **wrong))) == pointers
    for absent in (f"job_{NOBODYS}", "x", "%00"):
        refusal(await resolve(gateway, absent, **right), 404, "not-found")

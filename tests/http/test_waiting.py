"""`Prefer: wait` on a submit and on a read."""

import asyncio
import time
from typing import Any

import pytest

from app.jobs.reads import hub
from tests.gateway import Gateway, Person

from .world import TEXT, call_headers, faults, nothing_written, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_job_that_ends_in_time_is_answered_with_200(working: Gateway) -> None:
    ann = await working.make_person()
    answer = await working.submit(ann, headers={"Prefer": "wait=20"})
    job = answer.json()
    assert (answer.status_code, job["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert "retry-after" not in answer.headers
    assert (job["held_usd"], job["charged_usd"]) == ("0.00", "1.40")
    assert job["output"]["video"]["url"].startswith("http")


async def test_a_read_waits_as_well(working: Gateway) -> None:
    ann = await working.make_person()
    job_id = (await working.submit(ann)).json()["id"]
    headers = ann.headers | {"Prefer": "respond-async, wait=20; x=y"}
    answer = await working.client.get(f"/v1/jobs/{job_id}", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=20"


async def test_bare_wait_is_sixty_seconds(working: Gateway) -> None:
    ann = await working.make_person()
    answer = await working.submit(ann, headers={"Prefer": "wait"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=60")


async def test_a_job_that_does_not_end_in_time_is_answered_as_it_is(gateway: Gateway, ann: Person) -> None:
    older = (await gateway.submit(ann)).json()
    began = time.monotonic()
    answer, read = await asyncio.gather(
        gateway.submit(ann, headers={"Prefer": "wait=1"}),
        gateway.client.get(f"/v1/jobs/{older['id']}", headers=ann.headers | {"Prefer": "wait=1"}),
    )
    assert 0.9 < time.monotonic() - began < 5
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["retry-after"] == "5"
    assert (read.status_code, read.json()) == (200, older)
    assert "preference-applied" not in answer.headers
    assert "preference-applied" not in read.headers


async def test_waiting_for_what_has_ended_takes_no_time(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    began = time.monotonic()
    answer = await gateway.client.get(f"/v1/jobs/{job_id}", headers=ann.headers | {"Prefer": "wait=60"})
    assert answer.headers["preference-applied"] == "wait=60"
    assert time.monotonic() - began < 5


async def test_the_end_wakes_whoever_waits_at_once(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.app.state.rooms.hub, "is_deaf", False)  # it would look again after 15 s only
    job_id = (await gateway.submit(ann)).json()["id"]
    headers = ann.headers | {"Prefer": "wait=30"}
    waiting = [asyncio.create_task(gateway.client.get(f"/v1/jobs/{job_id}", headers=headers)) for _ in range(10)]
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    assert {(await task).json()["status"] for task in waiting} == {"canceled"}
    assert time.monotonic() - began < 5


BAD = ["wait=0", "wait=301", "wait=-1", "wait=1.5", "wait=", "wait=x", "wait=000000000001", "wait=" + "9" * 5000,
       "wait=NaN", "wait=٣".encode()]  # fmt: skip


@pytest.mark.parametrize("preference", BAD)
async def test_no_other_wait_is_guessed(gateway: Gateway, ann: Person, preference: str | bytes) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    headers: Any = {**ann.headers, "Prefer": preference}
    async with nothing_written(gateway):
        submitted = await gateway.client.post(TEXT, json={"prompt": "x"}, headers=headers)
        read = await gateway.client.get(f"/v1/jobs/{job_id}", headers=headers)
    assert faults(submitted) == faults(read) == {"Prefer": "wait takes 1 to 300 seconds"}


async def test_other_preferences_are_left_alone(gateway: Gateway, ann: Person) -> None:
    for preference in ("respond-async", "return=minimal", "waiting=5", "", "handling=strict; wait=0"):
        answer = await gateway.submit(ann, headers={"Prefer": preference})
        assert answer.status_code == 202
    headers = call_headers(*ann.headers.items(), ("Prefer", "respond-async"), ("Prefer", 'WAIT="0"'))
    answer = await gateway.client.post(TEXT, content=b'{"prompt": "x"}', headers=headers)
    assert list(faults(answer)) == ["Prefer"], "a second header, upper case and quotes do not hide it"


async def test_a_refused_submit_does_not_wait(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota("1.00", scope="user", scope_id=ann.user_id)
    began = time.monotonic()
    refusal(await gateway.submit(ann, headers={"Prefer": "wait=60"}), 402, "quota-exceeded")
    assert time.monotonic() - began < 5


async def test_a_key_revoked_meanwhile_hears_no_more(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait looks again every 15 s at the latest; here more often."""
    monkeypatch.setattr(hub, "REREAD_DEAF_SECONDS", 0.1)
    monkeypatch.setattr(gateway.app.state.rooms.hub, "is_deaf", True)
    job_id = (await gateway.submit(ann)).json()["id"]
    headers = ann.headers | {"Prefer": "wait=30"}
    waiting = asyncio.create_task(gateway.client.get(f"/v1/jobs/{job_id}", headers=headers))
    await asyncio.sleep(0.2)
    await gateway.admin("DELETE", f"/v1/keys/{ann.key_id}")
    refusal(await asyncio.wait_for(waiting, 6), 401, "key-unknown")

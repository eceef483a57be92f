"""`Idempotency-Key`: one job however often it is asked for."""

import asyncio
from typing import Any

import pytest

from tests.gateway import ADMIN, Gateway, Person

from .world import IMAGE, TEXT, call_headers, faults, nothing_written, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

KEY = {"Idempotency-Key": "order-4711"}


async def test_the_same_request_is_the_same_job(gateway: Gateway, ann: Person) -> None:
    first = await gateway.submit(ann, headers=KEY, tags={"a": "1", "b": "2"})
    async with nothing_written(gateway):
        again = await gateway.submit(ann, headers=KEY, tags={"b": "2", "a": "1"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()


async def test_what_was_left_out_may_be_written_out_the_next_time(gateway: Gateway, ann: Person) -> None:
    first = await gateway.submit(ann, headers=KEY)
    spelt_out: dict[str, Any] = {"duration": 5, "cfg_scale": 0.5, "model": "kling-2.1-master", "tags": {}}
    again = await gateway.submit(ann, headers=KEY, **spelt_out, end_user=None)
    assert again.json() == first.json()


async def test_an_ended_job_is_answered_with_200(gateway: Gateway, ann: Person) -> None:
    first = (await gateway.submit(ann, headers=KEY)).json()
    await gateway.client.post(f"/v1/jobs/{first['id']}/cancel", headers=ann.headers)
    again = await gateway.submit(ann, headers=KEY)
    assert again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert "retry-after" not in again.headers
    assert again.json()["status"] == "canceled"
    waiting = await gateway.submit(ann, headers=KEY | {"Prefer": "wait=3"})
    assert (waiting.status_code, waiting.headers["preference-applied"]) == (200, "wait=3")


async def test_twenty_at_once_make_one_job(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota(1, "jobs", "lifetime", scope="user", scope_id=ann.user_id)
    answers = await asyncio.gather(*(gateway.submit(ann, headers=KEY) for _ in range(20)))
    assert [answer.status_code for answer in answers] == [202] * 20
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "another boat"},
        {"duration": "10"},
        {"tags": {"a": "1"}},
        {"end_user": "42"},
        {"cfg_scale": 0.6},
        {"aspect_ratio": "1:1"},
    ],
)
async def test_other_input_under_the_same_key_is_refused(gateway: Gateway, ann: Person, other: dict[str, Any]) -> None:
    first = (await gateway.submit(ann, headers=KEY)).json()
    async with nothing_written(gateway):
        answer = await gateway.submit(ann, headers=KEY, **other)
    assert refusal(answer, 422, "idempotency-key-reused")["job_id"] == first["id"]


async def test_another_route_under_the_same_key_is_refused(gateway: Gateway, ann: Person) -> None:
    await gateway.submit(ann, headers=KEY)
    body = {"prompt": "a boat", "image_url": "https://example.com/a.png"}
    answer = await gateway.client.post(IMAGE, json=body, headers=ann.headers | KEY)
    refusal(answer, 422, "idempotency-key-reused")


async def test_another_image_under_the_same_key_is_refused(gateway: Gateway, ann: Person) -> None:
    for content, status in (("AAAA", 202), ("AAAA", 202), ("BBBB", 422)):
        body = {"prompt": "a boat", "image_url": f"data:image/png;base64,{content}"}
        answer = await gateway.client.post(IMAGE, json=body, headers=ann.headers | KEY)
        assert answer.status_code == status


async def test_two_users_keys_are_two_jobs_even_in_one_team(gateway: Gateway, ann: Person) -> None:
    bob = await gateway.make_person(team_id=ann.team_id)
    first, second = await gateway.submit(ann, headers=KEY), await gateway.submit(bob, headers=KEY)
    assert first.json()["id"] != second.json()["id"]
    assert "idempotent-replayed" not in second.headers


async def test_it_belongs_to_the_user_whichever_of_their_keys_is_used(gateway: Gateway, ann: Person) -> None:
    made = await gateway.admin("POST", "/v1/keys", name="another", user_id=ann.user_id)
    other = Person(ann.user_id, ann.team_id, made["id"], made["secret"])
    first, again = await gateway.submit(ann, headers=KEY), await gateway.submit(other, headers=KEY)
    assert again.json() == first.json()


async def test_a_refusal_is_not_remembered(gateway: Gateway, ann: Person) -> None:
    quota = await gateway.set_quota("1.00", scope="user", scope_id=ann.user_id)
    refusal(await gateway.submit(ann, headers=KEY), 402, "quota-exceeded")
    faults(await gateway.submit(ann, headers=KEY, cfg_scale=2))
    await gateway.admin("PATCH", f"/v1/quotas/{quota}", maximum="2.00")
    answer = await gateway.submit(ann, prompt="something else", headers=KEY)
    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers


async def test_a_full_quota_does_not_stand_between_a_caller_and_its_job(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota("1.40", scope="user", scope_id=ann.user_id)
    first = await gateway.submit(ann, headers=KEY)
    refusal(await gateway.submit(ann), 402, "quota-exceeded")
    assert (await gateway.submit(ann, headers=KEY)).json() == first.json()


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ü".encode(), b"\xff"])
async def test_a_key_that_is_none_is_refused(gateway: Gateway, ann: Person, key: str | bytes) -> None:
    headers: Any = {**ann.headers, "Idempotency-Key": key}
    async with nothing_written(gateway):
        answer = await gateway.client.post(TEXT, json={"prompt": "x"}, headers=headers)
    assert list(faults(answer)) == ["Idempotency-Key"]


async def test_two_of_them_are_refused(gateway: Gateway, ann: Person) -> None:
    headers = call_headers(*ann.headers.items(), *KEY.items(), *KEY.items())
    answer = await gateway.client.post(TEXT, content=b'{"prompt": "x"}', headers=headers)
    assert list(faults(answer)) == ["Idempotency-Key"]


@pytest.mark.parametrize("key", ["x" * 255, " a b ".strip(), "~!@#$%^&*()", "0"])
async def test_every_printable_key_is_taken(gateway: Gateway, ann: Person, key: str) -> None:
    first = await gateway.submit(ann, headers={"Idempotency-Key": key})
    again = await gateway.submit(ann, headers={"Idempotency-Key": key})
    assert first.status_code == 202
    assert again.json()["id"] == first.json()["id"]


async def test_admin_key_cannot_make_a_job_even_with_one(gateway: Gateway) -> None:
    answer = await gateway.client.post(TEXT, json={"prompt": "x"}, headers=ADMIN | KEY)
    refusal(answer, 403, "role-forbidden")

"""`POST /v1/text-to-video` and `/v1/image-to-video`: what is accepted, and how it is answered."""

import asyncio
from typing import Any

import pytest

from tests.gateway import Gateway, Person

from .world import IMAGE, IMAGE_ENDPOINT, TEXT, TEXT_ENDPOINT, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_submit_is_answered_with_the_job_and_where_to_find_it(gateway: Gateway, ann: Person) -> None:
    answer = await gateway.submit(ann)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["content-type"] == "application/json"
    assert "preference-applied" not in answer.headers
    assert "idempotent-replayed" not in answer.headers
    assert (job["status"], job["quoted_usd"], job["held_usd"], job["charged_usd"]) == ("queued", "1.40", "1.40", None)
    assert (await gateway.client.get(answer.headers["location"], headers=ann.headers)).json() == job


async def test_what_is_left_out_is_filled_in_as_fal_would(gateway: Gateway, ann: Person) -> None:
    text = (await gateway.client.post(TEXT, json={"prompt": "a boat"}, headers=ann.headers)).json()
    assert text["input"] == {
        "prompt": "a boat",
        "duration": "5",
        "aspect_ratio": "16:9",
        "negative_prompt": "blur, distort, and low quality",
        "cfg_scale": 0.5,
    }
    assert (text["model"], text["endpoint"], text["seconds"]) == ("kling-2.1-master", TEXT_ENDPOINT, 5)
    assert (text["tags"], text["end_user"]) == ({}, None)
    assert (text["user_id"], text["team_id"], text["key_id"]) == (ann.user_id, ann.team_id, ann.key_id)
    assert text["version"] == 1
    body = {"prompt": "a boat", "image_url": "https://example.com/a.png"}
    image = (await gateway.client.post(IMAGE, json=body, headers=ann.headers)).json()
    assert image["input"] == {
        **body,
        "duration": "5",
        "negative_prompt": "blur, distort, and low quality",
        "cfg_scale": 0.5,
    }
    assert (image["model"], image["endpoint"]) == ("kling-2.1-master", IMAGE_ENDPOINT)


async def test_every_field_is_kept_as_it_was_given(gateway: Gateway, ann: Person) -> None:
    given: dict[str, Any] = {
        "prompt": "Ein Boot ⛵ " + "x" * 2489,
        "duration": "10",
        "aspect_ratio": "9:16",
        "negative_prompt": "",
        "cfg_scale": 1,
    }
    ours: dict[str, Any] = {"tags": {"campaign": "spring", "a.b-c_1": ""}, "end_user": "visitor 42"}
    job = (await gateway.submit(ann, **given, **ours)).json()
    assert job["input"] == given
    assert (job["tags"], job["end_user"]) == (ours["tags"], ours["end_user"])
    assert (job["seconds"], job["quoted_usd"]) == (10, "2.80")


@pytest.mark.parametrize("duration", [5, 10])
async def test_a_duration_may_be_an_integer(gateway: Gateway, ann: Person, duration: int) -> None:
    job = (await gateway.submit(ann, duration=duration)).json()
    assert (job["input"]["duration"], job["seconds"]) == (str(duration), duration)


@pytest.mark.parametrize(("path", "endpoint"), [(TEXT, TEXT_ENDPOINT), (IMAGE, IMAGE_ENDPOINT)])
async def test_a_model_may_be_named_by_fals_endpoint_id(
    gateway: Gateway, ann: Person, path: str, endpoint: str
) -> None:
    body = {"prompt": "a boat", "model": endpoint}
    if path == IMAGE:
        body["image_url"] = "https://example.com/a.png"
    job = (await gateway.client.post(path, json=body, headers=ann.headers)).json()
    assert (job["model"], job["endpoint"]) == ("kling-2.1-master", endpoint)


async def test_the_greatest_tags_and_end_user_are_taken(gateway: Gateway, ann: Person) -> None:
    tags = {f"{number}" + "k" * 63: "v" * 256 for number in range(10)}
    answer = await gateway.submit(ann, tags=tags, end_user="u" * 128)
    assert answer.status_code == 202
    assert (answer.json()["tags"], answer.json()["end_user"]) == (tags, "u" * 128)


async def test_the_key_may_be_sent_as_fals_clients_do(gateway: Gateway, ann: Person) -> None:
    answer = await gateway.client.post(TEXT, json={"prompt": "x"}, headers={"Authorization": f"Key {ann.secret}"})
    assert answer.status_code == 202


async def test_json_may_be_called_by_its_cousins_names(gateway: Gateway, ann: Person) -> None:
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.example+json"):
        headers = ann.headers | {"Content-Type": kind}
        assert (await gateway.client.post(TEXT, content=b'{"prompt": "x"}', headers=headers)).status_code == 202


async def test_every_member_of_the_contract_is_there_and_no_other(gateway: Gateway, ann: Person) -> None:
    members = """
        id status model endpoint input output error tags end_user seconds quoted_usd held_usd charged_usd price_id
        queue_position fal_request_id user_id team_id key_id version cancel_requested_at created_at submitted_at
        started_at finished_at estimated_start_at expires_at payload_erased_at content_url
    """
    job = (await gateway.submit(ann)).json()
    assert sorted(job) == sorted(members.split())
    (await schema_of(gateway, "Job")).validate(job)


async def test_two_hundred_at_once_are_two_hundred_jobs(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota("280.00", scope="user", scope_id=ann.user_id)
    answers = await asyncio.gather(*(gateway.submit(ann, prompt=f"boat {n}") for n in range(201)))
    assert sorted(answer.status_code for answer in answers) == [202] * 200 + [402]
    jobs: list[dict[str, Any]] = [answer.json() for answer in answers if answer.status_code == 202]
    assert len({job["id"] for job in jobs}) == 200
    assert len({job["input"]["prompt"] for job in jobs}) == 200


async def test_a_model_without_a_price_is_refused_and_not_free(gateway: Gateway, ann: Person) -> None:
    async with gateway.wiring.db.plain() as plain:
        await plain.execute("UPDATE prices SET starts_at = starts_at + interval '100 years'")
    try:
        for path in (TEXT, f"{TEXT}/estimate"):
            answer = await gateway.client.post(path, json={"prompt": "x"}, headers=ann.headers)
            assert refusal(answer, 422, "model-unpriced")["endpoint"] == TEXT_ENDPOINT
    finally:
        async with gateway.wiring.db.plain() as plain:
            await plain.execute("UPDATE prices SET starts_at = starts_at - interval '100 years'")

"""What a Job looks like in every status, and what becomes of an image that was sent inside it."""

import base64
import hashlib
import logging
import re
from typing import Any

import pytest

from tests.gateway import Gateway, Person
from tests.sandbox.running import Sandbox

from .world import IMAGE, IMAGE_ENDPOINT, PNG, TEXT, find_in_rows, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

MONEY = re.compile(r"-?\d+\.\d{2,9}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ENDINGS = {
    "a boat": ("succeeded", "1.40"),
    "[refuse]": ("failed", "0.00"),
    "[refuse-billed]": ("failed", "1.40"),
    "[refuse-at-submit]": ("failed", "0.00"),
    "[500]": ("failed", "0.00"),
    "[odd-units]": ("succeeded", "1.40"),
    "[zero-units]": ("succeeded", "0.00"),
    "[no-video]": ("succeeded", "1.40"),
}


def check_words(job: dict[str, Any]) -> None:
    """Money is a decimal string, a time is RFC 3339 in UTC, in every member that has one."""
    for name, value in job.items():
        if value is not None and name.endswith("_usd"):
            assert MONEY.fullmatch(value), (name, value)
        if value is not None and name.endswith("_at"):
            assert MOMENT.fullmatch(value), (name, value)
    assert (job["finished_at"] is None) == (job["charged_usd"] is None)
    assert isinstance(job["seconds"], int | float)


@pytest.mark.parametrize("prompt", list(ENDINGS))
async def test_every_ending_is_a_job_as_the_schema_says(working: Gateway, prompt: str) -> None:
    ann, schema = await working.make_person(), await schema_of(working, "Job")
    accepted = (await working.submit(ann, prompt=prompt)).json()
    schema.validate(accepted)
    check_words(accepted)
    job = await working.job(ann, accepted["id"], wait=20)
    schema.validate(job)
    check_words(job)
    assert (job["status"], job["charged_usd"]) == ENDINGS[prompt]
    assert job["held_usd"] == "0.00"
    assert (job["output"] is None) == (job["status"] != "succeeded")
    assert (job["error"] is None) == (job["status"] == "succeeded")
    assert job["version"] > accepted["version"]
    kept = ("id", "input", "created_at", "quoted_usd", "price_id", "tags", "seconds", "user_id", "team_id", "key_id")
    assert {name: job[name] for name in kept} == {name: accepted[name] for name in kept}


async def test_moments_come_in_their_order(working: Gateway) -> None:
    ann = await working.make_person()
    job = (await working.submit(ann, headers={"Prefer": "wait=20"})).json()
    moments = [job["created_at"], job["submitted_at"], job["started_at"] or job["submitted_at"], job["finished_at"]]
    assert None not in moments
    assert moments == sorted(moments)
    assert job["fal_request_id"]


async def test_an_image_sent_inside_is_shown_by_its_size_and_digest_and_then_forgotten(
    working: Gateway, fal: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ann = await working.make_person()
    head, _, encoded = PNG.partition(",")
    content = base64.b64decode(encoded)
    shown = f"data:image/png;bytes={len(content)};sha256={hashlib.sha256(content).hexdigest()}"
    fal.set_clock(speed=0)
    said: list[str] = []
    try:
        body = {"prompt": "a data URI", "image_url": f"{head},{encoded}"}
        answer = await working.client.post(IMAGE, json=body, headers=ann.headers | {"Idempotency-Key": "image"})
        said.append(answer.text)
        job = answer.json()
        assert job["input"]["image_url"] == shown
        assert await find_in_rows(working, encoded[:40]) == ["payloads"]
        said.append((await working.client.post(f"{IMAGE}/estimate", json=body, headers=ann.headers)).text)
        said.append(
            (await working.client.post(IMAGE, json=body, headers=ann.headers | {"Idempotency-Key": "image"})).text
        )
    finally:
        fal.set_clock(speed=100)
    ended = await working.job(ann, job["id"], wait=20)
    assert (ended["status"], ended["input"]) == ("succeeded", job["input"])
    for path in ("/v1/jobs", f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/entries", f"/v1/jobs/{job['id']}/events"):
        said.append((await working.client.get(path, headers=ann.headers)).text)  # noqa: PERF401
    assert not [text for text in said if encoded[:40] in text]
    assert sum(shown in text for text in said) == 5  # 202, replayed, list, read, events
    assert await find_in_rows(working, encoded[:40]) == []
    assert encoded[:40] not in caplog.text
    (request,) = fal.requests(endpoint=IMAGE_ENDPOINT, prompt="a data URI")
    assert request["input"]["image_url"] == PNG, "fal gets the image itself"


async def test_fal_gets_the_input_with_its_defaults_and_nothing_of_ours(working: Gateway, fal: Sandbox) -> None:
    ann = await working.make_person()
    job = (
        await working.submit(
            ann, "only fal's fields", duration=10, tags={"a": "b"}, end_user="42", headers={"Prefer": "wait=20"}
        )
    ).json()
    (request,) = fal.requests(prompt="only fal's fields")
    assert request["input"] == job["input"]
    assert request["request_id"] == job["fal_request_id"]


@pytest.mark.parametrize("ending", ["cancel", "[refuse-at-submit]", "[refuse]", "[500]"])
async def test_an_image_is_forgotten_however_the_job_ends(
    working: Gateway, gateway: Gateway, ending: str, ann: Person
) -> None:
    where, person = (gateway, ann) if ending == "cancel" else (working, await working.make_person())
    canary = base64.b64encode(f"canary of {ending} ".encode() * 10).decode()
    body = {"prompt": ending, "image_url": f"data:image/jpeg;base64,{canary}"}
    job = (await where.client.post(IMAGE, json=body, headers=person.headers)).json()
    if ending == "cancel":
        assert await find_in_rows(where, canary) == ["payloads"]
        await where.client.post(f"/v1/jobs/{job['id']}/cancel", headers=person.headers)
    ended = await where.client.get(f"/v1/jobs/{job['id']}", headers=person.headers | {"Prefer": "wait=20"})
    assert ended.json()["finished_at"] is not None
    assert canary not in ended.text
    assert await find_in_rows(where, canary) == []


async def test_the_spelling_of_a_data_uri_does_not_matter(gateway: Gateway, ann: Person) -> None:
    body = {"prompt": "x", "image_url": "DATA:IMAGE/PNG;BASE64,AAAA"}
    job = (await gateway.client.post(IMAGE, json=body, headers=ann.headers)).json()
    digest = hashlib.sha256(bytes(3)).hexdigest()
    assert job["input"]["image_url"] == f"data:image/png;bytes=3;sha256={digest}"


async def test_a_link_is_shown_as_it_is(gateway: Gateway, ann: Person) -> None:
    for link in ("https://example.com/a.png?x=1&y=%20#z", "HTTPS://EXAMPLE.com:8443/", "https://[::1]/x"):
        body = {"prompt": "x", "image_url": link}
        assert (await gateway.client.post(IMAGE, json=body, headers=ann.headers)).json()["input"]["image_url"] == link


async def test_every_character_that_postgres_can_store_comes_back(gateway: Gateway, ann: Person) -> None:
    prompt = "\t\n\r\x01\x1f\x7f\x80 \u2028\ufeff\ufffe\U0010ffff ' \" \\ \\u0000 %s $1 {} 🎬"
    job = (await gateway.submit(ann, prompt, tags={"t": prompt}, end_user=prompt)).json()
    assert (job["input"]["prompt"], job["tags"]["t"], job["end_user"]) == (prompt, prompt, prompt)
    listed = await gateway.client.get("/v1/jobs", params={"end_user": prompt, "tag.t": prompt}, headers=ann.headers)
    assert listed.json()["data"] == [job]


async def test_an_answer_can_be_read_by_whoever_reads_json_strictly(gateway: Gateway, ann: Person) -> None:
    answer = await gateway.client.post(TEXT, json={"prompt": "x", "cfg_scale": 0.3}, headers=ann.headers)
    assert "NaN" not in answer.text
    assert answer.text.count('"id"') == 1
    assert answer.json()["input"]["cfg_scale"] == 0.3

"""Every model that is served, from its example to what it was charged; and what sets one apart from the others."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import jsonschema_rs
import pytest
import pytest_asyncio

from app.catalogue.registry import load_catalogue
from tests.gateway import ADMIN, Gateway, Person
from tests.sandbox.running import Sandbox

from .world import IMAGE, PNG, TEXT, faults, find_in_rows, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

KLING = "fal-ai/kling-video"
OTHER_PNG = "data:image/png;base64,aVZCT1J3MEtHZ28="
MODELS = [(endpoint.category, endpoint.model, endpoint.id) for endpoint in load_catalogue().endpoints]


@pytest_asyncio.fixture(loop_scope="package")
async def eva(working: Gateway) -> Person:
    """A member of a team of her own."""
    return await working.make_person()


@pytest.fixture(autouse=True)
def _sweep(fal: Sandbox) -> Iterator[None]:
    yield
    fal.http.delete("/_sandbox/requests")


async def listed(gateway: Gateway, person: Person) -> list[dict[str, Any]]:
    return list((await gateway.client.get("/v1/models", headers=person.headers)).json()["data"])


async def ask(gateway: Gateway, person: Person, path: str, **body: Any) -> httpx.Response:
    return await gateway.client.post(path, json={"prompt": "a boat", **body}, headers=person.headers)


async def test_the_catalogue_is_listed_with_prices_and_schemas(gateway: Gateway, ann: Person) -> None:
    for headers in (ann.headers, ADMIN):
        page = (await gateway.client.get("/v1/models", headers=headers)).json()
        (await schema_of(gateway, "Page_Model_")).validate(page)
        assert [(model["category"], model["model"], model["endpoint"]) for model in page["data"]] == MODELS
        for model in page["data"]:
            assert set(model["input_schema"]["required"]) <= set(model["example"])
            assert model["example"]["model"] == model["model"]
    prices = {(model["category"], model["model"]): model["prices"] for model in page["data"]}
    (price,) = prices["image-to-video", "kling-2.1-standard"]
    assert (price["base_seconds"], price["base_usd"], price["usd_per_second"]) == ("5.00", "0.28", "0.056")
    veo = {(price["when"]["resolution"], price["when"]["generate_audio"]): price for price in prices["text-to-video",
    "veo-3.1"]}  # fmt: skip
    assert len(veo) == 6
    assert veo["4k", True]["usd_per_second"] == "0.60"


async def test_every_example_becomes_a_video_and_is_charged_as_fal_bills_it(
    working: Gateway, eva: Person, fal: Sandbox
) -> None:
    """By our own routes, by short name and by fal's id, and by fal's protocol."""
    models = await listed(working, eva)

    async def put_through(model: dict[str, Any]) -> None:
        path, key = f"/v1/{model['category']}", {"Authorization": f"Key {eva.secret}"}
        body = {**model["example"], "prompt": model["endpoint"]}
        mine = {name: value for name, value in body.items() if name != "model"}
        made = [
            await working.client.post(path, json=body, headers=eva.headers),
            await working.client.post(path, json=body | {"model": model["endpoint"]}, headers=eva.headers),
            await working.client.post(f"/fal/{model['endpoint']}", json=mine, headers=key),
        ]
        assert [answer.status_code for answer in made] == [202, 202, 200], [answer.text for answer in made]
        ids = [answer.json().get("request_id", answer.json().get("id")) for answer in made]
        jobs = [await working.job(eva, job_id, wait=60) for job_id in ids]
        assert {(job["status"], job["model"], job["endpoint"]) for job in jobs} == {
            ("succeeded", model["model"], model["endpoint"])
        }
        sent = fal.requests(prompt=model["endpoint"], endpoint=model["endpoint"])
        assert len(sent) == 3
        assert {str(request["input"]) for request in sent} == {str(jobs[0]["input"])}
        billed = {Decimal(request["billed_units"]) * Decimal(request["unit_price_usd"]) for request in sent}
        assert {(job["quoted_usd"], job["charged_usd"]) for job in jobs} == {(jobs[0]["quoted_usd"],) * 2}
        assert billed == {Decimal(jobs[0]["charged_usd"])}
        status = await working.client.get(f"/fal/{model['endpoint']}/requests/{ids[2]}/status", headers=key)
        assert status.json()["status"] == "COMPLETED"

    await asyncio.gather(*(put_through(model) for model in models))


async def test_sound_is_the_dear_default(working: Gateway, eva: Person, fal: Sandbox) -> None:
    start = {"model": "kling-2.6-pro", "start_image_url": "https://example.com/a.png"}
    quotes = {}
    for name, more in (("left out", {}), ("with", {"generate_audio": True}), ("without", {"generate_audio": False})):
        estimate = await ask(working, eva, f"{IMAGE}/estimate", **start, **more)
        job = (await ask(working, eva, IMAGE, **start, **more)).json()
        assert estimate.json()["quoted_usd"] == job["quoted_usd"] == job["held_usd"]
        quotes[name] = job["quoted_usd"]
        ended = await working.job(eva, job["id"], wait=60)
        assert ended["charged_usd"] == job["quoted_usd"]
        (entry, _) = (await working.client.get(f"/v1/jobs/{job['id']}/entries", headers=eva.headers)).json()["data"]
        assert (entry["kind"], entry["amount_usd"]) == ("settle", job["quoted_usd"])
    assert quotes == {"left out": "0.70", "with": "0.70", "without": "0.35"}
    sent = [request["input"]["generate_audio"] for request in fal.requests(endpoint=f"{KLING}/v2.6/pro/image-to-video")]
    assert sent == [True, True, False], "what was left out is told to fal as well, so that its default cannot change"


async def test_seconds_are_understood_as_text_and_as_integer(gateway: Gateway, ann: Person) -> None:
    for duration, seconds, usd in (("8s", 8, "3.20"), (8, 8, "3.20"), (4, 4, "1.60"), ("6s", 6, "2.40")):
        job = (await ask(gateway, ann, TEXT, model="veo-3.1", duration=duration)).json()
        assert (job["seconds"], job["quoted_usd"], job["input"]["duration"]) == (seconds, usd, f"{seconds}s")
    async with nothing_written(gateway):
        wrong: list[Any] = ["8", "5", 5, 8.0, True, None, "", "auto", [8], 10**300]
        for given in wrong:
            answer = await ask(gateway, ann, TEXT, model="veo-3.1", duration=given)
            assert list(faults(answer)) == ["/duration"], given


async def test_two_images_are_both_kept_apart_and_both_sent(working: Gateway, eva: Person, fal: Sandbox) -> None:
    for model, first, last in (
        ("kling-2.1-pro", "image_url", "tail_image_url"),
        ("kling-2.5-turbo-pro", "image_url", "tail_image_url"),
        ("kling-2.6-pro", "start_image_url", "end_image_url"),
    ):
        job = (await ask(working, eva, IMAGE, model=model, **{first: PNG, last: OTHER_PNG})).json()
        shown = [job["input"][first], job["input"][last]]
        assert [text.split(";")[0] for text in shown] == ["data:image/png"] * 2
        assert [text.split(";")[1] for text in shown] == ["bytes=70", "bytes=11"]
        assert (await working.job(eva, job["id"], wait=60))["status"] == "succeeded"
        (request,) = fal.requests(endpoint=job["endpoint"])
        assert (request["input"][first], request["input"][last]) == (PNG, OTHER_PNG)
        assert await find_in_rows(working, OTHER_PNG) == [], "images are deleted with the end"


async def test_a_last_image_that_is_left_out_is_not_sent(working: Gateway, eva: Person, fal: Sandbox) -> None:
    for more in ({}, {"tail_image_url": None}):
        job = (await ask(working, eva, IMAGE, model="kling-2.1-pro", image_url=PNG, **more)).json()
        assert "tail_image_url" not in job["input"]
        assert (await working.job(eva, job["id"], wait=60))["status"] == "succeeded"
    for request in fal.requests(endpoint=f"{KLING}/v2.1/pro/image-to-video"):
        assert "tail_image_url" not in request["input"], "fal's schema knows no null"


async def test_what_a_model_does_not_have_is_refused(gateway: Gateway, ann: Person) -> None:
    start = {"start_image_url": "https://example.com/a.png"}
    one = {"image_url": "https://example.com/a.png"}
    wrong: list[tuple[str, dict[str, Any], set[str]]] = [
        (IMAGE, {"model": "kling-2.6-pro", **start, "voice_ids": ["a"]}, {"/voice_ids"}),
        (IMAGE, {"model": "kling-2.6-pro", **start, "voice_ids": []}, {"/voice_ids"}),
        (IMAGE, {"model": "kling-2.6-pro", **start, "generate_audio": 1}, {"/generate_audio"}),
        (IMAGE, {"model": "kling-2.6-pro", **start, "generate_audio": None}, {"/generate_audio"}),
        (IMAGE, {"model": "kling-2.6-pro", **one}, {"/start_image_url", "/image_url"}),
        (IMAGE, {"model": "kling-2.6-pro", **start, "cfg_scale": 0.5}, {"/cfg_scale"}),
        (IMAGE, {"model": "kling-2.1-standard", **one, "tail_image_url": PNG}, {"/tail_image_url"}),
        (IMAGE, {"model": "kling-2.1-pro", **one, "tail_image_url": "cat"}, {"/tail_image_url"}),
        (IMAGE, {"model": "kling-2.1-pro", **one, "tail_image_url": ""}, {"/tail_image_url"}),
        (IMAGE, {"model": "kling-2.1-pro", **one, "aspect_ratio": "16:9"}, {"/aspect_ratio"}),
        (IMAGE, {"model": "veo-3.1", **one}, {"/model"}),
        (TEXT, {"model": "kling-2.1-pro"}, {"/model"}),
        (TEXT, {"model": "veo-3.1", "aspect_ratio": "1:1", "cfg_scale": 1}, {"/aspect_ratio", "/cfg_scale"}),
        (TEXT, {"model": "veo-3.1", "seed": 2**53, "resolution": "8k"}, {"/seed", "/resolution"}),
        (TEXT, {"model": "veo-3.1", "seed": 1.5, "safety_tolerance": 4}, {"/seed", "/safety_tolerance"}),
        (TEXT, {"model": "veo-3.1", "prompt": "x" * 20_001}, {"/prompt"}),
        (TEXT, {"model": "kling-2.6-pro", "prompt": "x" * 2501}, {"/prompt"}),
    ]
    async with nothing_written(gateway):
        for path, body, pointers in wrong:
            assert set(faults(await ask(gateway, ann, path, **body))) == pointers, body
            assert set(faults(await ask(gateway, ann, f"{path}/estimate", **body))) == pointers, body
        for field, endpoint in (("voice_ids", f"{KLING}/v2.6/pro/image-to-video"), ("cfg_scale", "fal-ai/veo3.1")):
            body = {"prompt": "x", field: 1} | (start if field == "voice_ids" else {})
            headers = {"Authorization": f"Key {ann.secret}"}
            answer = await gateway.client.post(f"/fal/{endpoint}", json=body, headers=headers)
            assert [fault["loc"] for fault in answer.json()["detail"]] == [["body", field]]


async def test_an_input_whose_price_is_not_known_is_refused(gateway: Gateway, ann: Person) -> None:
    """And only that one: the prices of the model's other inputs go on."""
    move = """UPDATE prices SET starts_at = starts_at {} interval '100 years'
        WHERE endpoint = 'fal-ai/veo3.1' AND "when" @> '{{"resolution": "4k", "generate_audio": true}}'"""
    async with gateway.wiring.db.plain() as plain:
        assert await plain.execute(move.format("+")) == "UPDATE 1"
    try:
        for path in (TEXT, f"{TEXT}/estimate"):
            async with nothing_written(gateway):
                refusal(await ask(gateway, ann, path, model="veo-3.1", resolution="4k"), 422, "model-unpriced")
            more = {"model": "veo-3.1", "resolution": "4k", "generate_audio": False}
            assert (await ask(gateway, ann, path, **more)).json()["quoted_usd"] == "3.20"
    finally:
        async with gateway.wiring.db.plain() as plain:
            await plain.execute(move.format("-"))


async def test_an_admin_prices_sound_anew_and_silence_stays_as_it_was(gateway: Gateway, ann: Person) -> None:
    price = {"endpoint": f"{KLING}/v2.6/pro/text-to-video", "base_seconds": 0, "base_usd": 0}

    async def quotes() -> list[str]:
        bodies: list[dict[str, Any]] = [{}, {"generate_audio": True}, {"generate_audio": False}]
        jobs = [await ask(gateway, ann, TEXT, model="kling-2.6-pro", **body) for body in bodies]
        return [job.json()["quoted_usd"] for job in jobs]

    made = await gateway.admin("POST", "/v1/prices", **price, when={"generate_audio": True}, usd_per_second="0.15")
    try:
        assert await quotes() == ["0.75", "0.75", "0.35"]
        (model,) = [model for model in await listed(gateway, ann) if model["endpoint"] == price["endpoint"]]
        assert len(model["prices"]) == 2
        assert made["id"] in {shown["price_id"] for shown in model["prices"]}
    finally:
        await gateway.admin("POST", "/v1/prices", **price, when={"generate_audio": True}, usd_per_second="0.14")
    assert await quotes() == ["0.70", "0.70", "0.35"]


async def test_openapi_describes_each_models_input(gateway: Gateway) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    components = document["components"]

    def matching(body: Any, refs: list[dict[str, str]]) -> list[str]:
        found = [ref for ref in refs if jsonschema_rs.is_valid({**ref, "components": components}, body)]
        return [components["schemas"][ref["$ref"].rsplit("/", 1)[1]]["title"] for ref in found]

    for category in ("text-to-video", "image-to-video"):
        models = [model for kind, model, _ in MODELS if kind == category]
        for path in (f"/v1/{category}", f"/v1/{category}/estimate"):
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            assert list(content["examples"]) == models
            for model, example in content["examples"].items():
                refs = content["schema"]["anyOf"]
                assert matching(example["value"], refs) == [model], "one schema a model, and no other fits"
                assert matching({**example["value"], "model": "kling-0"}, refs) == []
    call = document["paths"]["/fal/{endpoint}"]["post"]
    assert call["parameters"][0]["schema"]["enum"] == [endpoint for *_, endpoint in MODELS]
    assert len(call["requestBody"]["content"]["application/json"]["schema"]["anyOf"]) == len(MODELS)

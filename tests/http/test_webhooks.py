"""`webhook_url` on submit, `/v1/deliveries` and `/v1/me/webhook-secret`, as callers meet them."""

from typing import Any

import pytest

from tests.gateway import ADMIN, Gateway, Person

from .office import Office
from .world import IMAGE, TEXT, faults, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

HOOK = "https://hooks.test/falgate?token=1"


async def end_job(gateway: Gateway, person: Person, url: str = HOOK) -> dict[str, Any]:
    """A job that has ended, canceled; its delivery."""
    job_id = (await gateway.submit(person, webhook_url=url)).json()["id"]
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=person.headers)
    (delivery,) = await deliveries(gateway, person, f"job_id={job_id}")
    return delivery


async def deliveries(gateway: Gateway, person: Person, query: str = "limit=100") -> list[dict[str, Any]]:
    answer = await gateway.client.get(f"/v1/deliveries?{query}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


@pytest.mark.parametrize(
    "url",
    ["http://hooks.test/", "https://127.0.0.1/", "https://169.254.169.254/", "https://a@hooks.test/", "hooks.test", "",
     "https://0x7f.1/", "https://hooks.test/#x", "https://hooks.test/" + "x" * 2000, 7, True, [], {}, "\0"],
)  # fmt: skip
async def test_a_url_that_cannot_be_called_is_one_clear_refusal(gateway: Gateway, ann: Person, url: Any) -> None:
    for path in (TEXT, f"{TEXT}/estimate", IMAGE, f"{IMAGE}/estimate"):
        body = {"prompt": "x", "webhook_url": url}
        body |= {"image_url": "https://example.com/a"} if path.startswith(IMAGE) else {}
        async with nothing_written(gateway):
            answer = await gateway.client.post(path, json=body, headers=ann.headers)
        assert faults(answer).keys() == {"/webhook_url"}, path
        assert len(answer.json()["errors"]) == 1


async def test_it_is_refused_together_with_all_else_that_is_wrong(gateway: Gateway, ann: Person) -> None:
    body = {"prompt": "", "webhook_url": "http://hooks.test/", "model": "nobody's"}
    answer = await gateway.client.post(TEXT, json=body, headers=ann.headers)
    assert faults(answer).keys() == {"/webhook_url", "/model"}
    del body["model"]
    assert faults(await gateway.client.post(TEXT, json=body, headers=ann.headers)).keys() == {"/webhook_url", "/prompt"}
    refusal(await gateway.client.post(TEXT, json=body), 401, "key-unknown")


async def test_a_job_does_not_show_it_and_null_is_none(gateway: Gateway, ann: Person) -> None:
    for url in (HOOK, None):
        answer = await gateway.submit(ann, webhook_url=url)
        assert answer.status_code == 202
        assert "webhook_url" not in answer.json()
        estimated = await gateway.client.post(
            f"{TEXT}/estimate", json={"prompt": "x", "webhook_url": url}, headers=ann.headers
        )
        assert estimated.status_code == 200


async def test_another_webhook_is_other_input_under_one_idempotency_key(gateway: Gateway, ann: Person) -> None:
    key = {"Idempotency-Key": "k"}
    first = await gateway.submit(ann, webhook_url=HOOK, headers=key)
    again = await gateway.submit(ann, webhook_url=HOOK, headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    for other in (HOOK + "2", None):
        answer = await gateway.submit(ann, webhook_url=other, headers=key)
        refusal(answer, 422, "idempotency-key-reused")


async def test_a_delivery_is_listed_and_described(gateway: Gateway, ann: Person) -> None:
    made = [await end_job(gateway, ann) for _ in range(3)]
    assert made[0] | {"id": "", "job_id": "", "next_try_at": "", "created_at": ""} == {
        "id": "", "job_id": "", "type": "job.canceled", "shape": "standard", "url": HOOK, "status": "pending",
        "tries": 0, "next_try_at": "", "response_status": None, "error": None, "created_at": "", "tried_at": None,
        "delivered_at": None,
    }  # fmt: skip
    (await schema_of(gateway, "Delivery")).validate(made[0])
    assert await deliveries(gateway, ann) == made[::-1]
    assert await deliveries(gateway, ann, "status=pending") == made[::-1]
    assert await deliveries(gateway, ann, "status=failed") == []
    page = (await gateway.client.get("/v1/deliveries?limit=2", headers=ann.headers)).json()
    assert page["data"] == made[:0:-1]
    assert await deliveries(gateway, ann, f"limit=2&cursor={page['next_cursor']}") == made[:1]


@pytest.mark.parametrize(
    "query", ["state=failed", "status=lost", "job_id=x", "cursor=x", "limit=0", "limit=101", "user_id=x", "status="]
)
async def test_a_filter_that_is_none_is_refused(gateway: Gateway, ann: Person, query: str) -> None:
    answer = await gateway.client.get(f"/v1/deliveries?{query}", headers=ann.headers)
    assert faults(answer).keys() == {query.partition("=")[0]}


async def test_each_role_sees_the_deliveries_that_it_may(gateway: Gateway, office: Office) -> None:
    mias = await end_job(gateway, office.mia)
    own = {who: await end_job(gateway, person) for who, person in office.people.items() if who != "mia"}
    teams = [mias["id"], own["colleague"]["id"], own["lead"]["id"]]
    everybodys = [mias["id"], *(one["id"] for one in own.values())]
    for who, sees in (
        ("mia", [mias["id"]]), ("colleague", [own["colleague"]["id"]]), ("lead", teams),
        ("other_lead", [own["other_lead"]["id"]]), ("stranger", [own["stranger"]["id"]]),
        ("finance", [own["finance"]["id"]]), ("admin", everybodys), ("ADMIN_KEY", everybodys),
    ):  # fmt: skip
        page = await office.call(who, "GET", "/v1/deliveries?limit=100", None)
        seen = {one["id"] for one in page.json()["data"]}
        assert seen & set(everybodys) == set(sees), who


async def test_one_that_failed_is_asked_for_again(gateway: Gateway, ann: Person) -> None:
    delivery = await end_job(gateway, ann)
    async with gateway.wiring.db.plain() as plain:
        await plain.execute(
            "UPDATE deliveries SET status = 'failed', next_try_at = NULL, tries = 9, error = 'answered 500',"
            " give_up_at = now() WHERE id = $1",
            delivery["id"].removeprefix("delivery_"),
        )
    answer = await gateway.client.post(f"/v1/deliveries/{delivery['id']}/redeliver", headers=ann.headers)
    assert answer.status_code == 202
    again = answer.json()
    assert again | {"next_try_at": "", "error": None} == delivery | {"next_try_at": ""}
    assert again["next_try_at"] is not None
    (await schema_of(gateway, "Delivery")).validate(again)
    for nobodys in ("delivery_" + "0" * 32, "delivery_x", delivery["job_id"]):
        missing = await gateway.client.post(f"/v1/deliveries/{nobodys}/redeliver", headers=ann.headers)
        refusal(missing, 404, "not-found")


async def test_a_secret_is_each_users_own_and_kept_nowhere_on_its_way(gateway: Gateway, office: Office) -> None:
    answers = [
        await gateway.client.get("/v1/me/webhook-secret", headers=office.people[who].headers)
        for who in ("mia", "mia", "colleague")
    ]
    mine, again, colleagues = (answer.json()["secret"] for answer in answers)
    assert mine == again != colleagues
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    rotated = await gateway.client.post("/v1/me/webhook-secret/rotate", headers=office.mia.headers)
    assert rotated.headers["cache-control"] == "no-store"
    assert rotated.json()["secret"] not in {mine, colleagues}
    (await schema_of(gateway, "WebhookSecret")).validate(rotated.json())
    for method, path in (("GET", "/v1/me/webhook-secret"), ("POST", "/v1/me/webhook-secret/rotate")):
        refusal(await gateway.client.request(method, path, headers=ADMIN), 403, "role-forbidden")

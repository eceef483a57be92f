"""`POST /v1/…/estimate`: what it would cost and whether it would be accepted; nothing is written."""

import pytest

from tests.gateway import Gateway, Person

from .world import IMAGE, TEXT, faults, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_it_tells_the_cost_and_writes_nothing(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota("14.00", scope="user", scope_id=ann.user_id)
    schema = await schema_of(gateway, "Estimate")
    for path, more in ((TEXT, {}), (IMAGE, {"image_url": "https://example.com/a.png"})):
        for duration, usd in (("5", "1.40"), (10, "2.80")):
            body = {"prompt": "x", "duration": duration, "tags": {"a": "b"}, "end_user": "42", **more}
            async with nothing_written(gateway):
                answer = await gateway.client.post(f"{path}/estimate", json=body, headers=ann.headers)
            assert answer.status_code == 200
            assert answer.json() == {"seconds": int(duration), "quoted_usd": usd, "allowed": True, "quotas": []}
            schema.validate(answer.json())


async def test_it_names_every_quota_that_would_block_as_the_refusal_does(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota("1.00", scope="user", scope_id=ann.user_id)
    await gateway.set_quota(0, "in_flight", None, scope="team", scope_id=ann.team_id)
    await gateway.set_quota("4.5", "seconds", "month", scope="key", scope_id=ann.key_id)
    await gateway.set_quota(100, "jobs", "week", scope="key", scope_id=ann.key_id)
    async with nothing_written(gateway):
        answer = await gateway.client.post(f"{TEXT}/estimate", json={"prompt": "x"}, headers=ann.headers)
    told = answer.json()
    assert answer.status_code == 200
    assert not told["allowed"]
    assert sorted(quota["metric"] for quota in told["quotas"]) == ["in_flight", "seconds", "usd"]
    refused = refusal(await gateway.submit(ann), 402, "quota-exceeded")

    def by_id(quotas: list[dict[str, str]]) -> list[dict[str, str]]:
        return sorted(quotas, key=lambda quota: quota["quota_id"])

    assert by_id(told["quotas"]) == by_id(refused["quotas"])
    (await schema_of(gateway, "Estimate")).validate(told)


async def test_it_refuses_the_same_input_as_the_submit(gateway: Gateway, ann: Person) -> None:
    body = {"prompt": "", "cfg_scale": 2, "nonsense": 1}
    estimated = await gateway.client.post(f"{TEXT}/estimate", json=body, headers=ann.headers)
    submitted = await gateway.client.post(TEXT, json=body, headers=ann.headers)
    assert faults(estimated) == faults(submitted)


async def test_an_idempotency_key_that_has_a_job_does_not_disturb_it(gateway: Gateway, ann: Person) -> None:
    key = {"Idempotency-Key": "k"}
    await gateway.submit(ann, headers=key)
    for prompt in ("a boat", "another"):
        answer = await gateway.client.post(f"{TEXT}/estimate", json={"prompt": prompt}, headers=ann.headers | key)
        assert (answer.status_code, answer.json()["allowed"]) == (200, True)


async def test_nobody_is_told_a_price_without_a_key(gateway: Gateway) -> None:
    refusal(await gateway.client.post(f"{TEXT}/estimate", json={"prompt": "x"}), 401, "key-unknown")


async def test_the_guard_of_these_tests_sees_what_is_written(gateway: Gateway, ann: Person) -> None:
    with pytest.raises(AssertionError):
        async with nothing_written(gateway):
            await gateway.submit(ann)

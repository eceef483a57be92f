"""`/v1/prices`: what was, is and will be charged; `/v1/prices/check` and `/v1/prices/simulate`."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway import ADMIN, Gateway
from tests.sandbox.running import Sandbox

from .world import IMAGE_ENDPOINT, TEXT_ENDPOINT, faults, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

PRICE: dict[str, Any] = {"endpoint": IMAGE_ENDPOINT, "base_seconds": 5, "base_usd": "1.40", "usd_per_second": "0.28"}


async def post(gateway: Gateway, path: str, body: Any) -> Any:
    return await gateway.client.post(path, json=body, headers=ADMIN)


async def listed(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    return list((await gateway.admin("GET", f"/v1/prices?endpoint={IMAGE_ENDPOINT}&limit=100{query}"))["data"])


async def test_each_price_says_when_it_ends_and_whether_it_is_in_force(gateway: Gateway) -> None:
    at = [datetime.now(UTC) + timedelta(days=days) for days in (1, 2)]
    second = (await post(gateway, "/v1/prices", PRICE | {"starts_at": at[1].isoformat()})).json()
    assert (second["state"], second["ends_at"]) == ("future", None)
    first = (await post(gateway, "/v1/prices", PRICE | {"starts_at": at[0].isoformat()})).json()
    assert (first["state"], first["ends_at"]) == ("future", second["starts_at"])
    other = {"when": {"duration": "10"}, "starts_at": (at[0] + timedelta(hours=1)).isoformat()}
    apart = (await post(gateway, "/v1/prices", PRICE | other)).json()
    now = (await post(gateway, "/v1/prices", PRICE)).json()
    assert (now["state"], now["ends_at"]) == ("current", first["starts_at"])
    (await schema_of(gateway, "Page_PriceShown_")).validate({"data": [now], "next_cursor": None})
    rows = await listed(gateway)
    assert rows[:4] == [now, apart, first, second]
    assert apart["ends_at"] is None
    assert rows[4]["state"] == "past"
    assert rows[4]["ends_at"] == now["starts_at"]
    for state in ("past", "current", "future"):
        assert await listed(gateway, f"&state={state}") == [row for row in rows if row["state"] == state]
    for price in (first, second, apart):
        assert (await gateway.client.delete(f"/v1/prices/{price['id']}", headers=ADMIN)).status_code == 204
    assert (await listed(gateway, "&state=current"))[0]["ends_at"] is None


async def test_a_page_of_prices_knows_what_follows_on_another(gateway: Gateway) -> None:
    starts_at = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    future = (await post(gateway, "/v1/prices", PRICE | {"starts_at": starts_at})).json()
    page = await gateway.admin("GET", f"/v1/prices?endpoint={IMAGE_ENDPOINT}&limit=1")
    after = await gateway.admin("GET", f"/v1/prices?endpoint={IMAGE_ENDPOINT}&limit=1&cursor={page['next_cursor']}")
    assert page["data"] == [future]
    assert (after["data"][0]["state"], after["data"][0]["ends_at"]) == ("current", future["starts_at"])
    await gateway.client.delete(f"/v1/prices/{future['id']}", headers=ADMIN)


async def test_a_state_that_is_none_is_refused(gateway: Gateway) -> None:
    assert list(faults(await gateway.client.get("/v1/prices?state=old", headers=ADMIN))) == ["state"]


async def test_a_price_in_the_past_is_refused_with_the_way_out(gateway: Gateway) -> None:
    problem = refusal(
        await post(gateway, "/v1/prices", PRICE | {"starts_at": "2026-01-01T00:00:00Z"}), 409, "price-started"
    )
    assert "leave starts_at out" in problem["detail"]


async def test_a_price_that_no_input_could_match_is_refused_with_the_value_that_would(gateway: Gateway) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        (IMAGE_ENDPOINT, {"duration": 5}, 'an input always has "5" here'),
        (IMAGE_ENDPOINT, {"duration": "7"}, "must be '5' or '10'"),
        (IMAGE_ENDPOINT, {"duration": None}, "a field that is left out has no value"),
        (IMAGE_ENDPOINT, {"image_url": "data:image/png;base64,AAAA"}, "an input always has"),
        ("fal-ai/veo3.1", {"duration": 8}, 'an input always has "8s" here'),
        ("fal-ai/veo3.1", {"generate_audio": 1}, "must be a valid boolean"),
        ("fal-ai/veo3.1", {"generate_audio": "true"}, "must be a valid boolean"),
        ("fal-ai/veo3.1", {"negative_prompt": None}, "a field that is left out has no value"),
    ]
    async with nothing_written(gateway):
        for endpoint, when, why in wrong:
            for path in ("/v1/prices", "/v1/prices/simulate"):
                answer = await post(gateway, path, PRICE | {"endpoint": endpoint, "when": when})
                ((pointer, told),) = faults(answer).items()
                assert pointer == f"/when/{next(iter(when))}"
                assert told.startswith(why), told
                assert told.endswith(", so the price would never match")
        for endpoint, when in ((TEXT_ENDPOINT, {"cfg_scale": 1}), ("fal-ai/veo3.1", {"seed": 7})):
            right = PRICE | {"endpoint": endpoint, "when": when}
            assert (await post(gateway, "/v1/prices/simulate", right)).status_code == 200, when


@pytest.fixture
def price_list(fal: Sandbox) -> Iterator[Sandbox]:
    """fal's price list, as it was afterwards."""
    yield fal
    fal.http.delete("/_sandbox/prices")
    fal.http.delete("/_sandbox/faults")


def set_price(fal: Sandbox, endpoint: str = TEXT_ENDPOINT, **given: Any) -> None:
    answer = fal.http.post("/_sandbox/prices", json={"endpoint_id": endpoint, **given})
    assert answer.status_code == 200, answer.text


async def check(gateway: Gateway) -> dict[str, dict[str, Any]]:
    page = await gateway.admin("GET", "/v1/prices/check")
    (await schema_of(gateway, "Page_PriceCompared_")).validate(page)
    return {row["endpoint"]: row for row in page["data"]}


async def test_the_check_compares_the_whole_catalogue_with_fals_list(working: Gateway, price_list: Sandbox) -> None:
    found = await check(working)
    models = (await working.admin("GET", "/v1/models?limit=100"))["data"]
    assert list(found) == [model["endpoint"] for model in models]
    assert found[TEXT_ENDPOINT] == {
        "endpoint": TEXT_ENDPOINT,
        "model": "kling-2.1-master",
        "ours": next(model["prices"] for model in models if model["endpoint"] == TEXT_ENDPOINT),
        "fal": {"unit_price": "0.28", "unit": "seconds", "currency": "USD"},
        "verdict": "agrees",
        "detail": "fal's 0.28 a second agrees.",
        "proposal": None,
    }
    set_price(price_list, unit_price=None)
    assert (await check(working))[TEXT_ENDPOINT]["verdict"] == "not_listed"
    set_price(price_list, unit_price="0.00017", unit="compute seconds")
    set_price(price_list, IMAGE_ENDPOINT, unit_price="0.25", currency="EUR")
    found = await check(working)
    assert {found[endpoint]["verdict"] for endpoint in (TEXT_ENDPOINT, IMAGE_ENDPOINT)} == {"not_comparable"}


async def test_a_difference_comes_with_a_body_that_mends_it_and_nobody_applies(
    working: Gateway, price_list: Sandbox
) -> None:
    set_price(price_list, unit_price="0.30")
    async with nothing_written(working):
        proposal = (await check(working))[TEXT_ENDPOINT]["proposal"]
    assert proposal == {
        "endpoint": TEXT_ENDPOINT, "when": {}, "base_seconds": "5.00", "base_usd": "1.50", "usd_per_second": "0.30",
    }  # fmt: skip
    assert (await post(working, "/v1/prices", proposal)).status_code == 201
    try:
        assert (await check(working))[TEXT_ENDPOINT]["verdict"] == "agrees"
    finally:
        await post(working, "/v1/prices", PRICE | {"endpoint": TEXT_ENDPOINT})


@pytest.mark.parametrize("fault", ["401", "403-locked", "404", "429", "500", "502-html", "truncated", "reset"])
async def test_whatever_is_wrong_at_fal_is_one_problem_of_ours(
    working: Gateway, price_list: Sandbox, fault: str
) -> None:
    price_list.set_fault(call="pricing", fault=fault)
    answer = await working.client.get("/v1/prices/check", headers=ADMIN)
    problem = refusal(answer, 503, "prices-away")
    assert answer.headers["Retry-After"]
    assert ("FAL_KEY" in problem["detail"]) == (fault in {"401", "403-locked"})


async def test_finance_sees_what_last_months_jobs_would_have_cost(working: Gateway) -> None:
    mia = await working.make_person()
    finance = await working.make_person("finance")
    for duration in ("5", "10"):
        job = await working.submit(mia, duration=duration, headers={"Prefer": "wait=30"})
        assert job.json()["status"] == "succeeded", job.text
    body = {"endpoint": TEXT_ENDPOINT, "base_seconds": 5, "base_usd": "1.50", "usd_per_second": "0.30"}
    async with nothing_written(working):
        answer = await working.client.post(
            "/v1/prices/simulate", json=body | {"starts_at": "2026-01-01T00:00:00Z", "days": 7}, headers=finance.headers
        )
    found = answer.json()
    (await schema_of(working, "Simulation")).validate(found)
    (mias,) = [team for team in found["by_team"] if team["team_id"] == mia.team_id]
    assert mias == {
        "team_id": mia.team_id, "team": mias["team"], "jobs": 2, "quoted_usd": "4.20", "simulated_usd": "4.50",
        "difference_usd": "0.30",
    }  # fmt: skip
    assert datetime.fromisoformat(found["until"]) - datetime.fromisoformat(found["since"]) == timedelta(days=7)


async def test_no_simulation_is_guessed(working: Gateway) -> None:
    for change, pointer in (
        ({"days": 0}, "/days"), ({"days": 367}, "/days"), ({"days": "x"}, "/days"), ({"days": True}, "/days"),
        ({"days": "30"}, "/days"), ({"nonsense": 1}, "/nonsense"),
        ({"endpoint": "x"}, "/endpoint"), ({"when": {"tags": 1}}, "/when/tags"), ({"base_usd": 1.5}, "/base_usd"),
        ({"starts_at": "9999-12-31T00:00:00Z"}, "/starts_at"),
    ):  # fmt: skip
        assert list(faults(await post(working, "/v1/prices/simulate", PRICE | change))) == [pointer], change

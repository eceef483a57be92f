"""`/v1/me`, `/v1/models`, `/v1/quotas` and `/v1/prices`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway import ADMIN, Gateway, Person

from .world import NOBODYS, TEXT, TEXT_ENDPOINT, faults, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

PRICE: dict[str, Any] = {
    "endpoint": TEXT_ENDPOINT,
    "base_seconds": 5,
    "base_usd": "1.40",
    "usd_per_second": "0.28",
}


def wrong_values(field: str, values: list[Any]) -> list[tuple[dict[str, Any], str]]:
    """Each as a change of the body, with the pointer of its fault."""
    return [({field: value}, f"/{field}") for value in values]


async def post(gateway: Gateway, path: str, body: Any, headers: dict[str, str] = ADMIN) -> Any:
    return await gateway.client.post(path, json=body, headers=headers)


async def test_me_tells_who_one_is_and_what_is_left(gateway: Gateway) -> None:
    lead = await gateway.make_person("lead")
    usd = await gateway.set_quota("14.00", scope="user", scope_id=lead.user_id)
    slots = await gateway.set_quota(2, "in_flight", None, scope="key", scope_id=lead.key_id)
    for _ in range(2):
        await gateway.submit(lead)
    answer = await gateway.client.get("/v1/me", headers=lead.headers)
    me = answer.json()
    (await schema_of(gateway, "Me")).validate(me)
    assert (me["user"]["id"], me["team"]["id"], me["role"]) == (lead.user_id, lead.team_id, "lead")
    by_id = {quota["quota_id"]: quota for quota in me["quotas"]}
    assert by_id.keys() == {usd, slots}
    today = datetime.now(UTC).date()
    assert by_id[usd] == {
        "quota_id": usd,
        "scope": "user",
        "scope_id": lead.user_id,
        "metric": "usd",
        "window": "day",
        "maximum": "14.00",
        "used": "0.00",
        "held": "2.80",
        "remaining": "11.20",
        "window_starts_at": f"{today}T00:00:00Z",
        "window_ends_at": f"{today + timedelta(days=1)}T00:00:00Z",
    }
    assert by_id[slots] == {
        "quota_id": slots,
        "scope": "key",
        "scope_id": lead.key_id,
        "metric": "in_flight",
        "window": None,
        "maximum": "2.00",
        "used": "0.00",
        "held": "2.00",
        "remaining": "0.00",
        "window_starts_at": None,
        "window_ends_at": None,
    }


async def test_me_never_owes(gateway: Gateway, ann: Person) -> None:
    quota = await gateway.set_quota("14.00", scope="user", scope_id=ann.user_id)
    await gateway.submit(ann)
    await gateway.admin("PATCH", f"/v1/quotas/{quota}", maximum="1.00")
    me = (await gateway.client.get("/v1/me", headers=ann.headers)).json()
    assert [(quota["maximum"], quota["held"], quota["remaining"]) for quota in me["quotas"]] == [
        ("1.00", "1.40", "0.00")
    ]


async def test_a_quota_is_made_read_changed_and_deleted(gateway: Gateway, ann: Person) -> None:
    body = {"scope": "user", "scope_id": ann.user_id, "metric": "usd", "window": "month", "maximum": "10"}
    made = await post(gateway, "/v1/quotas", body)
    quota = made.json()
    assert made.status_code == 201
    (await schema_of(gateway, "QuotaShown")).validate(quota)
    more = {"alert_percents": [50, 80, 100], "created_at": quota["created_at"]}
    assert quota == {**body, "id": quota["id"], "maximum": "10.00", **more}
    path = f"/v1/quotas/{quota['id']}"
    changed = await gateway.client.patch(path, json={"maximum": 12}, headers=ADMIN)
    assert (changed.status_code, changed.json()) == (200, quota | {"maximum": "12.00"})
    listed = (await gateway.client.get("/v1/quotas", headers=ann.headers)).json()
    assert quota | {"maximum": "12.00"} in listed["data"]
    deleted = await gateway.client.delete(path, headers=ADMIN)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await gateway.client.get("/v1/quotas", headers=ann.headers)).json()["data"] == []
    for method in ("PATCH", "DELETE"):
        answer = await gateway.client.request(method, path, json={"maximum": 1}, headers=ADMIN)
        refusal(answer, 404, "not-found")
    log = await gateway.admin("GET", f"/v1/audit-log?object_id={quota['id']}")
    assert [row["action"] for row in log["data"]] == ["quota.deleted", "quota.changed", "quota.created"]
    assert (log["data"][1]["before"]["maximum"], log["data"][1]["after"]["maximum"]) == ("10.00", "12.00")


async def test_one_quota_a_scope_metric_and_window(gateway: Gateway, ann: Person) -> None:
    body = {"scope": "user", "scope_id": ann.user_id, "metric": "in_flight", "maximum": 1}
    assert (await post(gateway, "/v1/quotas", body)).status_code == 201
    async with nothing_written(gateway):
        refusal(await post(gateway, "/v1/quotas", body), 409, "name-taken")


async def test_quotas_are_filtered_and_paged(gateway: Gateway, ann: Person) -> None:
    windows = ("minute", "hour", "day", "week", "month", "lifetime")
    ids = [await gateway.set_quota(100, "jobs", window, scope="key", scope_id=ann.key_id) for window in windows]
    found, cursor = [], ""
    while True:
        page = (await gateway.client.get(f"/v1/quotas?limit=4{cursor}", headers=ann.headers)).json()
        found += [quota["id"] for quota in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == ids[::-1]
    for query, expected in (("window=day", ids[2:3]), (f"scope_id={ann.key_id}", ids[::-1]), ("metric=usd", []),
                            ("scope=team", []), ("scope=key&window=hour&metric=jobs", ids[1:2])):  # fmt: skip
        page = (await gateway.client.get(f"/v1/quotas?{query}", headers=ann.headers)).json()
        assert [quota["id"] for quota in page["data"]] == expected
    for query, parameter in (("scope=x", "scope"), ("metric=x", "metric"), ("window=x", "window"), ("cursor=x",
    "cursor"),
                             ("nonsense=1", "nonsense"), ("limit=0", "limit"), ("scope_id=%00",
                             "scope_id")):  # fmt: skip
        answer = await gateway.client.get(f"/v1/quotas?{query}", headers=ann.headers)
        assert list(faults(answer)) == [parameter], query


WRONG_FIGURES: list[Any] = [1.5, -1, "-0.01", True, None, "", ".", "1e3", "NaN", "Infinity", " 1", "1_0",
"1.0000000001",
                            "1" * 12, 10**12, [], {}, "٣", "1,5", "0x1"]  # fmt: skip


async def test_no_quota_is_guessed(gateway: Gateway, ann: Person) -> None:
    right: dict[str, Any] = {
        "scope": "user", "scope_id": ann.user_id, "metric": "usd", "window": "day", "maximum": "1",
    }  # fmt: skip
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({"maximum": figure}, "/maximum") for figure in WRONG_FIGURES),
        *wrong_values("scope", ["x", "", None, 1, []]),
        *wrong_values("metric", ["eur", None, 1]),
        *wrong_values("window", ["year", "", 1, []]),
        *wrong_values("scope_id", ["", "x" * 129, "a\0", 5, [], f"user_{NOBODYS}"]),
        ({"nonsense": 1}, "/nonsense"),
    ]
    contradictions: list[dict[str, Any]] = [
        {"metric": "in_flight"},
        {"window": None},
        {"scope": "organization"},
        {"scope_id": "ann"},
        {"scope_id": ann.key_id},
        {"scope": "team"},
    ]
    async with nothing_written(gateway):
        for change, pointer in wrong:
            answer = await post(gateway, "/v1/quotas", right | change)
            assert list(faults(answer)) == [pointer], change
        for change in contradictions:
            faults(await post(gateway, "/v1/quotas", right | change))
        assert set(faults(await post(gateway, "/v1/quotas", {"scope": "x", "metric": "y", "z": 1}))) == {
            "/scope", "/metric", "/maximum", "/z",
        }  # fmt: skip
    quota = await gateway.set_quota("1.00", scope="user", scope_id=ann.user_id)
    async with nothing_written(gateway):
        for figure in WRONG_FIGURES:
            answer = await gateway.client.patch(f"/v1/quotas/{quota}", json={"maximum": figure}, headers=ADMIN)
            assert list(faults(answer)) == ["/maximum"]
        answer = await gateway.client.patch(f"/v1/quotas/{quota}", json={"maximum": 1, "window": "day"}, headers=ADMIN)
        assert list(faults(answer)) == ["/window"], "PATCH changes maximum only"


async def test_a_price_is_added_ahead_of_time_and_taken_back_before_it_starts(gateway: Gateway) -> None:
    starts_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    answer = await post(gateway, "/v1/prices", PRICE | {"starts_at": starts_at, "base_usd": "9"})
    price = answer.json()
    assert answer.status_code == 201
    (await schema_of(gateway, "PriceShown")).validate(price)
    assert (price["base_usd"], price["when"]) == ("9.00", {})
    refusal(await post(gateway, "/v1/prices", PRICE | {"starts_at": starts_at}), 409, "name-taken")
    listed = await gateway.admin("GET", f"/v1/prices?endpoint={TEXT_ENDPOINT}")
    assert listed["data"][0] == price
    path = f"/v1/prices/{price['id']}"
    assert (await gateway.client.delete(path, headers=ADMIN)).status_code == 204
    refusal(await gateway.client.delete(path, headers=ADMIN), 404, "not-found")
    log = await gateway.admin("GET", f"/v1/audit-log?object_id={price['id']}")
    assert [row["action"] for row in log["data"]] == ["price.deleted", "price.created"]


async def test_no_price_starts_in_the_past_and_none_that_started_goes(gateway: Gateway) -> None:
    async with nothing_written(gateway):
        refusal(await post(gateway, "/v1/prices", PRICE | {"starts_at": "2026-01-01T00:00:00Z"}), 409, "price-started")
        prices = (await gateway.admin("GET", "/v1/prices"))["data"]
        started = [price for price in prices if datetime.fromisoformat(price["starts_at"]) <= datetime.now(UTC)]
        assert started
        for price in started:
            refusal(await gateway.client.delete(f"/v1/prices/{price['id']}", headers=ADMIN), 409, "price-started")
    for absent in (f"price_{NOBODYS}", "x", f"quota_{NOBODYS}", "%00"):
        refusal(await gateway.client.delete(f"/v1/prices/{absent}", headers=ADMIN), 404, "not-found")


async def test_a_newer_price_is_in_force_at_once_and_old_jobs_keep_theirs(gateway: Gateway, ann: Person) -> None:
    old = (await gateway.submit(ann)).json()
    made = (await post(gateway, "/v1/prices", PRICE | {"base_usd": "2.00"})).json()
    try:
        new = (await gateway.submit(ann, duration="10")).json()
        assert (new["price_id"], new["quoted_usd"]) == (made["id"], "3.40")
        assert await gateway.job(ann, old["id"]) == old
    finally:
        assert (await post(gateway, "/v1/prices", PRICE)).status_code == 201


async def test_two_prices_for_one_input_are_no_price(gateway: Gateway, ann: Person) -> None:
    """Exactly one must match: a price for an input value stands beside the one for all, so neither is right."""
    second = (await post(gateway, "/v1/prices", PRICE | {"when": {"duration": "10"}})).json()
    try:
        refusal(await gateway.submit(ann, duration="10"), 422, "model-unpriced")
        assert (await gateway.submit(ann, duration="5")).status_code == 202
    finally:
        async with gateway.wiring.db.plain() as plain:
            await plain.execute("DELETE FROM prices WHERE id = $1", second["id"].removeprefix("price_"))


async def test_no_price_is_guessed(gateway: Gateway) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({field: figure}, f"/{field}") for field in ("base_seconds", "base_usd",
        "usd_per_second") for figure in WRONG_FIGURES),
        *wrong_values("endpoint", ["", "x", None, 5, [], "a\0b", "x" * 301]),
        *wrong_values("starts_at", ["", "tomorrow", "2027-01-01", 1800000000, True, []]),
        *wrong_values("when", [[], "x", 5, None]),
        ({"nonsense": 1}, "/nonsense"),
    ]  # fmt: skip
    async with nothing_written(gateway):
        for change, pointer in wrong:
            assert list(faults(await post(gateway, "/v1/prices", PRICE | change))) == [pointer], change
        assert set(faults(await post(gateway, "/v1/prices", {}))) == {
            "/endpoint", "/base_seconds", "/base_usd", "/usd_per_second",
        }  # fmt: skip
    for query, parameter in (("cursor=x", "cursor"), ("nonsense=1", "nonsense"), ("endpoint=%00", "endpoint")):
        assert list(faults(await gateway.client.get(f"/v1/prices?{query}", headers=ADMIN))) == [parameter]


async def test_every_list_is_data_and_next_cursor(gateway: Gateway) -> None:
    admin = await gateway.make_person("admin")
    job_id = (await gateway.submit(admin)).json()["id"]
    for path in ("/v1/jobs", "/v1/models", "/v1/teams", "/v1/users", "/v1/keys", "/v1/quotas", "/v1/prices",
                 "/v1/audit-log", f"/v1/jobs/{job_id}/entries"):  # fmt: skip
        page = (await gateway.client.get(path, headers=admin.headers)).json()
        assert page.keys() - {"explanation"} == {"data", "next_cursor"}, path
        assert ("explanation" in page) == path.endswith("/entries")
        if path != "/v1/models":
            ids = [row["id"] for row in page["data"]]
            assert ids == sorted(ids, reverse=True), path


async def test_the_estimate_follows_the_price_book(gateway: Gateway, ann: Person) -> None:
    await post(gateway, "/v1/prices", PRICE | {"base_usd": "0.123456789", "usd_per_second": "0.000000001"})
    try:
        answer = await post(gateway, f"{TEXT}/estimate", {"prompt": "x", "duration": "10"}, ann.headers)
        assert answer.json()["quoted_usd"] == "0.123456794"
    finally:
        await post(gateway, "/v1/prices", PRICE)


async def test_a_price_is_for_values_that_its_endpoint_can_be_given(gateway: Gateway) -> None:
    values: list[Any] = [1.5, [], {}, ["x"], "a\0b", "x" * 101, 10**30]
    async with nothing_written(gateway):
        for value in values:
            answer = await post(gateway, "/v1/prices", PRICE | {"when": {"duration": value}})
            assert list(faults(answer)) == ["/when/duration"], value
        for name in ("", "nonsense", "a\0b", "a/b", "x" * 5000, "[key]", "image_url", "tags"):
            answer = await post(gateway, "/v1/prices", PRICE | {"when": {name: "x", "duration": "5"}})
            (pointer,) = faults(answer)
            assert pointer.startswith("/when/"), name
        many = {f"x{number}": 1 for number in range(50_000)}
        assert list(faults(await post(gateway, "/v1/prices", PRICE | {"when": many}))) == ["/when"]


async def test_the_catalogue_is_a_list_like_the_others(gateway: Gateway, ann: Person) -> None:
    whole = (await gateway.client.get("/v1/models", headers=ann.headers)).json()["data"]
    first = (await gateway.client.get("/v1/models?limit=1", headers=ann.headers)).json()
    rest = (await gateway.client.get(f"/v1/models?cursor={first['next_cursor']}", headers=ann.headers)).json()
    assert first["data"] + rest["data"] == whole
    assert rest["next_cursor"] is None
    for parameter in ("nonsense", "limit", "cursor"):
        answer = await gateway.client.get(f"/v1/models?{parameter}=x", headers=ann.headers)
        assert list(faults(answer)) == [parameter]

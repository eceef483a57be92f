"""The sandbox's bill: an event for each request that cost something, and how it can be late and wrong."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .running import TEXT, Sandbox

BILL = "/v1/models/billing-events"


@pytest.fixture
def billing(sandbox: Sandbox) -> Iterator[Sandbox]:
    yield sandbox
    sandbox.http.delete("/_sandbox/bill")


def told(sandbox: Sandbox, **query: Any) -> dict[str, Any]:
    answer = sandbox.http.get(BILL, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def costs(sandbox: Sandbox, request_id: str) -> list[float]:
    return [event["cost_total"] for event in told(sandbox, request_id=request_id)["billing_events"]]


def change(sandbox: Sandbox, **given: Any) -> None:
    answer = sandbox.http.post("/_sandbox/bill", json=given)
    assert answer.status_code == 200, answer.text


def test_what_cost_something_is_billed_once_it_has_ended(billing: Sandbox) -> None:
    billing.set_clock(speed=0)
    request_id = billing.start("a boat", duration="10")
    free = billing.start("[500-billed]")
    assert told(billing)["billing_events"] == []
    billing.set_clock(advance=10)
    (event,) = told(billing, expand="auth_method")["billing_events"]
    assert datetime.fromisoformat(event.pop("timestamp")) <= datetime.now(UTC)
    assert event.pop("auth_method").startswith("Key ")
    assert event == {
        "request_id": request_id,
        "endpoint_id": TEXT,
        "output_units": 10.0,
        "unit_price": 0.28,
        "percent_discount": None,
        "cost_subtotal": 2.8,
        "cost_discount": 0,
        "cost_total": 2.8,
        "cost_estimate_nano_usd": 2_800_000_000,
    }
    assert costs(billing, free) == []


def test_it_is_as_late_as_was_asked_for(billing: Sandbox) -> None:
    billing.set_clock(speed=0)
    change(billing, lag_seconds=3600)
    request_id = billing.start("a boat")
    billing.set_clock(advance=3600)
    assert costs(billing, request_id) == []
    billing.set_clock(advance=10)
    assert costs(billing, request_id) == [1.4]


def test_it_is_as_wrong_as_was_asked_for(billing: Sandbox) -> None:
    dearer, missing, pieces, free = [billing.start(f"a boat {n}") for n in range(3)] + [billing.start("[500]")]
    for request_id in (dearer, missing, pieces, free):
        billing.wait(request_id)
    changes = [
        {"request_id": dearer, "cost_usd": "1.50"},
        {"request_id": missing, "cost_usd": None},
        {"request_id": pieces, "events": 3},
        {"request_id": free, "cost_usd": "0.70"},
    ]
    extra = {"request_id": dearer, "endpoint_id": TEXT, "cost_usd": "-0.10"}
    change(billing, change=changes, extra=[extra, extra | {"request_id": "foreign", "cost_usd": "7"}])
    assert (costs(billing, dearer), costs(billing, missing)) == ([-0.1, 1.5], [])
    assert sorted(costs(billing, pieces)) == [0.466666666, 0.466666667, 0.466666667]
    assert (costs(billing, free), costs(billing, "foreign")) == ([0.7], [7.0])
    shown = billing.http.get("/_sandbox/bill").json()
    assert (shown["lag_seconds"], len(shown["billing_events"])) == (0, 7)
    billing.http.delete("/_sandbox/bill")
    assert (costs(billing, dearer), costs(billing, missing), costs(billing, "foreign")) == ([1.4], [1.4], [])


def test_it_is_told_by_pages_the_newest_first(billing: Sandbox) -> None:
    now = datetime.now(UTC)
    moments = [(now - timedelta(hours=hours)).isoformat() for hours in (1, 2, 3, 4, 5)]
    change(
        billing,
        extra=[
            {"request_id": f"request-{n}", "endpoint_id": TEXT, "cost_usd": "1", "timestamp": moment}
            for n, moment in enumerate(moments)
        ],
    )
    query = {"start": (now - timedelta(hours=4, minutes=1)).isoformat(), "end": moments[0], "limit": "2"}
    first = told(billing, **query)
    second = told(billing, **query, cursor=first["next_cursor"])
    found = [event["request_id"] for page in (first, second) for event in page["billing_events"]]
    assert found == ["request-1", "request-2", "request-3"]
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)
    assert told(billing, endpoint_id="fal-ai/other")["billing_events"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "10001"},
        {"start": "2026-01-01T00:00:00Z", "end": "2026-04-02T00:00:00Z"},
        {"start": "2026-01-02", "end": "2026-01-01"},
        {"start": "yesterday"},
        {"cursor": "nonsense"},
        {"since": "2026-01-01"},
    ],
)
def test_what_it_does_not_understand_is_an_error_of_the_platforms(billing: Sandbox, query: dict[str, str]) -> None:
    answer = billing.http.get(BILL, params=query)
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "validation_error")


@pytest.mark.parametrize(
    "given", [{"lag_seconds": -1}, {"change": [{"cost_usd": "1"}]}, {"extra": [{"cost": "1"}]}, {"late": 1}]
)
def test_what_cannot_be_asked_for_is_refused(billing: Sandbox, given: dict[str, Any]) -> None:
    assert billing.http.post("/_sandbox/bill", json=given).status_code == 400


def test_faults_reach_it(billing: Sandbox) -> None:
    billing.set_fault(call="bill", fault="500", times=1)
    assert billing.http.get(BILL).status_code == 500
    assert billing.http.get(BILL).status_code == 200

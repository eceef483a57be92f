"""fal's price list, and how a test makes it say something else."""

from typing import Any

import httpx
import pytest

from .running import IMAGE, TEXT, Sandbox

LIST = "/v1/models/pricing"
ABSENT = "fal-ai/pixverse/v5/text-to-video"


def ask(sandbox: Sandbox, *endpoints: str, **query: Any) -> httpx.Response:
    return sandbox.http.get(LIST, params={"endpoint_id": ",".join(endpoints), **query})


def set_price(sandbox: Sandbox, **given: Any) -> None:
    answer = sandbox.http.post("/_sandbox/prices", json={"endpoint_id": TEXT, **given})
    assert answer.status_code == 200, answer.text


def test_it_names_what_it_knows_of_what_was_asked_for(sandbox: Sandbox) -> None:
    answer = ask(sandbox, TEXT, IMAGE, ABSENT)
    assert answer.status_code == 200
    assert answer.json() == {
        "prices": [
            {"endpoint_id": endpoint, "unit_price": 0.28, "unit": "seconds", "currency": "USD"}
            for endpoint in (IMAGE, TEXT)
        ],
        "next_cursor": None,
        "has_more": False,
    }


def test_it_comes_in_pages(sandbox: Sandbox) -> None:
    known = [row["endpoint_id"] for row in sandbox.http.get("/_sandbox/prices").json()["prices"]]
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in known:
        page = ask(sandbox, *known, **cursor).json()
        found += [row["endpoint_id"] for row in page["prices"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert cursor
    assert found == known
    assert len(ask(sandbox, *known, limit=1).json()["prices"]) == 1


def test_a_test_sets_another_price_unit_or_currency_or_none(sandbox: Sandbox) -> None:
    set_price(sandbox, unit_price="0.00017", unit="compute seconds", currency="EUR")
    assert ask(sandbox, TEXT).json()["prices"] == [
        {"endpoint_id": TEXT, "unit_price": 0.00017, "unit": "compute seconds", "currency": "EUR"}
    ]
    set_price(sandbox, unit_price=None)
    assert ask(sandbox, TEXT).json()["prices"] == []
    sandbox.http.delete("/_sandbox/prices")
    assert ask(sandbox, TEXT).json()["prices"][0]["unit_price"] == 0.28


@pytest.mark.parametrize("wrong", [{}, {"unit_price": 0.3}, {"unit_price": "x"}, {"unit_price": "1", "when": {}}])
def test_a_price_that_cannot_be_set_is_refused(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    answer = sandbox.http.post("/_sandbox/prices", json={"endpoint_id": TEXT, **wrong})
    assert answer.status_code == 400
    assert ask(sandbox, TEXT).json()["prices"][0]["unit_price"] == 0.28


@pytest.mark.parametrize(
    "query",
    [
        {"endpoint_id": ""},
        {"endpoint_id": ",".join(["a/b"] * 51)},
        {"limit": "0"},
        {"cursor": "x"},
        {"cursor": "/w=="},
        {"nonsense": 1},
    ],
)
def test_a_mistaken_question_is_refused(sandbox: Sandbox, query: dict[str, Any]) -> None:
    answer = sandbox.http.get(LIST, params={"endpoint_id": TEXT, **query})
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "validation_error")


def test_it_takes_a_key_and_can_be_away(sandbox: Sandbox) -> None:
    nobody = sandbox.http.get(LIST, params={"endpoint_id": TEXT}, headers={"authorization": "Key sandbox-unknown:x"})
    assert (nobody.status_code, nobody.json()["error"]["type"]) == (401, "authorization_error")
    sandbox.set_fault(call="pricing", fault="404", times=1)
    gone = ask(sandbox, TEXT)
    assert (gone.status_code, gone.json()["error"]["type"]) == (404, "not_found")
    assert ask(sandbox, TEXT).status_code == 200

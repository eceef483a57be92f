"""fal's price list: read to its end in figures that are no floats, and not believed in any doubt."""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from pydantic import SecretStr

from app.fal import Platform, Trouble, UnitPrice, UnitPrices

from .conftest import FAL_KEY
from .wire import KLING, Act, Heard, Server, answer, serving

NOT_FOUND = answer(404, {"error": {"type": "not_found", "message": "Endpoint not found"}})


def row(endpoint: object = KLING, **members: object) -> dict[str, object]:
    return {"endpoint_id": endpoint, "unit_price": 0.28, "unit": "seconds", "currency": "USD", **members}


def page(*rows: object, **members: object) -> dict[str, object]:
    return {"prices": list(rows), "next_cursor": None, "has_more": False, **members}


def query_of(heard: Heard) -> dict[str, list[str]]:
    return parse_qs(urlsplit(heard.line.split(" ")[1]).query)


def asked_for(heard: Heard) -> list[str]:
    return query_of(heard)["endpoint_id"][0].split(",")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(answer(200, page())) as running:
        yield running


@pytest_asyncio.fixture
async def platform(server: Server, roots: ssl.SSLContext) -> AsyncIterator[Platform]:
    made = Platform(fal_key=SecretStr(FAL_KEY), admin_key=None, api_url=f"{server.url}/v1", read_seconds=2, tls=roots)
    yield made
    await made.aclose()


async def test_prices_are_exact_and_asked_for_under_the_key(server: Server, platform: Platform) -> None:
    """As JSON has it, 0.1 + 0.2 in a float would be another figure; the strange units are fal's own (FAL.md 6)."""
    server.act = answer(
        200,
        b'{"prices": [{"endpoint_id": "a/b", "unit_price": 0.123456789012345678, "unit": "video segments",'
        b' "currency": "USD"}, {"endpoint_id": "c/d", "unit_price": 1, "unit": "1000 tokens", "currency": "EUR"}, {'
        b'"endpoint_id": "e/f", "unit_price": 1.7e-4, "unit": "compute seconds", "currency": "USD"},'
        b' {"endpoint_id": "nobody/asked", "unit_price": 5, "unit": "units", "currency": "USD"}], "has_more": false}',
    )
    assert await platform.prices(["a/b", "c/d", "e/f", "g/h"]) == UnitPrices(
        {
            "a/b": UnitPrice(Decimal("0.123456789012345678"), "video segments", "USD"),
            "c/d": UnitPrice(Decimal(1), "1000 tokens", "EUR"),
            "e/f": UnitPrice(Decimal("0.00017"), "compute seconds", "USD"),
        }
    )
    (heard,) = server.heard
    assert heard.line.startswith("GET /v1/models/pricing?")
    assert heard.headers["authorization"] == f"Key {FAL_KEY}"
    assert query_of(heard) == {"endpoint_id": ["a/b,c/d,e/f,g/h"]}


async def test_fifty_are_asked_for_at_once_and_each_answer_is_read_to_its_end(
    server: Server, platform: Platform
) -> None:
    every = [f"fal-ai/{number}" for number in range(120)]

    def act(heard: Heard) -> Act:
        asked, after = asked_for(heard), int(query_of(heard).get("cursor", ["0"])[0])
        rows = [row(one) for one in asked[after : after + 20]]
        if after + 20 >= len(asked):
            return answer(200, page(*rows))
        return answer(200, page(*rows, next_cursor=str(after + 20), has_more=True))

    server.act = act
    told = await platform.prices(every)
    assert isinstance(told, UnitPrices)
    assert sorted(told.by_endpoint) == sorted(every)
    assert sorted(len(asked_for(heard)) for heard in server.heard) == [20, 50, 50, 50, 50, 50, 50]


async def test_one_that_fal_does_not_know_hides_no_other(server: Server, platform: Platform) -> None:
    def act(heard: Heard) -> Act:
        asked = asked_for(heard)
        return NOT_FOUND if "old/one" in asked else answer(200, page(*map(row, asked)))

    server.act = act
    told = await platform.prices([KLING, "old/one", "a/b"])
    assert isinstance(told, UnitPrices)
    assert sorted(told.by_endpoint) == ["a/b", KLING]


async def test_a_fal_that_knows_none_is_another_one(server: Server, platform: Platform) -> None:
    server.act = NOT_FOUND
    told = await platform.prices([KLING, "a/b"])
    assert isinstance(told, Trouble)
    assert told.code == 404


PRICES: list[Any] = [None, "0.28", True, [], {}, -0.28, 1e300, 1e-300, 10**7]
UNREADABLE: list[Any] = [
    {},
    [],
    {"prices": None, "has_more": False},
    {"prices": {}, "has_more": False},
    page(None),
    page({}),
    page(row(None)),
    *(page(row(unit_price=price)) for price in PRICES),
    page(row(unit=None)),
    page(row(unit=5)),
    page(row(currency=None)),
    page(row(), row(unit_price=0.3)),
    page(row(), has_more=True),
    page(row(), has_more=True, next_cursor=""),
    page(row(), has_more=True, next_cursor=7),
    page(row(), has_more="no"),
    page(row(), has_more=[]),
    page(row(), has_more=True, next_cursor="round"),
    b'{"prices": [{"endpoint_id": "a/b", "unit_price": NaN, "unit": "seconds", "currency": "USD"}]}',
    b"<html>",
    b'{"prices": [',
    b"",
]


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: json.dumps(body, default=repr)[-60:])
async def test_whatever_cannot_be_read_is_trouble(server: Server, platform: Platform, body: object) -> None:
    server.act = answer(200, body)
    assert isinstance(await platform.prices([KLING]), Trouble)


@pytest.mark.parametrize("rows", [[], [row(), row()], [row(unit_price=0)], [row("a/b"), row()]], ids=str)
async def test_what_is_merely_odd_is_told(server: Server, platform: Platform, rows: list[object]) -> None:
    server.act = answer(200, page(*rows, has_more=None))
    told = await platform.prices([KLING])
    assert isinstance(told, UnitPrices)
    assert set(told.by_endpoint) <= {KLING}


ELSE: list[Act] = [
    *(
        answer(code, {"error": {"type": "server_error", "message": FAL_KEY}}, headers={"Retry-After": "7"})
        for code in (202, 301, 400, 401, 403, 404, 429, 500, 502)
    ),
    answer(404, b"<html>nginx"),
    answer(404, {"error": "not_found"}),
    Act(then="reset"),
    Act(then="close"),
]


@pytest.mark.parametrize("act", ELSE, ids=range(len(ELSE)))
async def test_every_other_answer_is_trouble_and_shows_no_key(server: Server, platform: Platform, act: Act) -> None:
    server.act = act
    told = await platform.prices([KLING])
    assert isinstance(told, Trouble)
    assert FAL_KEY not in repr(told)


async def test_a_list_that_changes_its_mind_or_does_not_end_is_trouble(server: Server, platform: Platform) -> None:
    def another(heard: Heard) -> Act:
        later = "cursor" in query_of(heard)
        return answer(200, page(row(unit_price=0.3 if later else 0.28), has_more=not later, next_cursor="c"))

    def endless(_: Heard) -> Act:
        return answer(200, page(row(), has_more=True, next_cursor=f"c{len(server.heard)}"))

    acts: list[Callable[[Heard], Act]] = [another, endless]
    for act in acts:
        server.act = act
        assert isinstance(await platform.prices([KLING]), Trouble)
    assert len(server.heard) < 150


async def test_all_of_it_together_takes_no_longer_than_one_call(server: Server, platform: Platform) -> None:
    server.act = Act(then="hang")
    platform.longest_seconds = 0.05
    assert isinstance(await platform.prices([KLING]), Trouble)

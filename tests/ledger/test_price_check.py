"""Our prices against fal's one figure: the same, another, or not to be compared; and the row that would mend it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from app.accounts.callers import COMMAND_LINE
from app.catalogue.prices import Price
from app.catalogue.registry import load_catalogue
from app.fal import Platform, Trouble, UnitPrice, UnitPrices
from app.ids import new_id
from app.ledger.prices.book import create_price, find_prices
from app.ledger.prices.check import PricesAway, check_prices, compare
from app.ledger.prices.shapes import PriceBody

from .house import House

NOW = datetime(2026, 5, 4, tzinfo=UTC)
(KLING,) = [endpoint for endpoint in load_catalogue().endpoints if endpoint.id.endswith("v2.1/master/text-to-video")]


def ours(base_seconds: str, base_usd: str, usd_per_second: str, **when: Any) -> Price:
    return Price(
        id=new_id(NOW),
        endpoint=KLING.id,
        when=when,
        base_seconds=Decimal(base_seconds),
        base_usd=Decimal(base_usd),
        usd_per_second=Decimal(usd_per_second),
        starts_at=NOW,
    )


def theirs(unit_price: str, unit: str = "seconds", currency: str = "USD") -> UnitPrice:
    return UnitPrice(Decimal(unit_price), unit, currency)


MASTER = ours("5", "1.40", "0.28")
SILENT, LOUD = ours("0", "0", "0.20", cfg_scale=0), ours("0", "0", "0.40", cfg_scale=1)


@pytest.mark.parametrize(
    ("rows", "fal", "verdict"),
    [
        ([MASTER], theirs("0.28"), "agrees"),
        ([MASTER], theirs("0.280"), "agrees"),
        ([MASTER], theirs("0.28", "Second", "usd"), "agrees"),
        ([ours("0", "0", "0.28")], theirs("0.28"), "agrees"),
        ([ours("3.008", "0.84224", "0.28")], theirs("0.28"), "agrees"),
        ([SILENT, LOUD], theirs("0.40"), "agrees"),
        ([MASTER], theirs("0.30"), "differs"),
        ([ours("5", "1.50", "0.28")], theirs("0.28"), "differs"),
        ([ours("6", "0.28", "0.07")], theirs("0.07"), "differs"),
        ([SILENT, LOUD], theirs("0.30"), "differs"),
        ([], theirs("0.28"), "differs"),
        ([MASTER], None, "not_listed"),
        ([MASTER], theirs("0.28", "compute seconds"), "not_comparable"),
        ([MASTER], theirs("0.28", "videos"), "not_comparable"),
        ([MASTER], theirs("0.28", ""), "not_comparable"),
        ([MASTER], theirs("0.28", currency="EUR"), "not_comparable"),
        ([MASTER], theirs("0"), "not_comparable"),
    ],
)
def test_what_is_charged_is_compared(rows: Sequence[Price], fal: UnitPrice | None, verdict: str) -> None:
    found = compare(KLING, rows, fal)
    assert found.verdict == verdict
    assert found.detail.endswith(".")
    assert (found.proposal is not None) == (verdict == "differs" and len(rows) < 2)
    assert [row.price_id for row in found.ours] == [row.id for row in rows]


def test_a_difference_is_told_in_figures_and_with_its_doubts() -> None:
    found = compare(KLING, [MASTER], theirs("0.30"))
    assert "fal asks 0.30 a second, where ours are 1.40 for 5 s and then 0.28 a second" in found.detail
    assert "discount" in found.detail
    several = compare(KLING, [SILENT, LOUD], theirs("0.40"))
    assert "one of 2 prices" in several.detail


@pytest.mark.parametrize(
    ("row", "fal", "proposed"),
    [
        (MASTER, "0.30", ("5.00", "1.50", "0.30", {})),
        (ours("0", "0", "0.2", duration="5"), "0.123456789", ("0.00", "0.00", "0.123456789", {"duration": "5"})),
        (MASTER, "0.0000000001", None),
        (MASTER, "1000000", None),
    ],
)
def test_what_is_proposed_charges_what_fal_says_or_is_not_proposed(
    row: Price, fal: str, proposed: tuple[Any, ...] | None
) -> None:
    found = compare(KLING, [row], theirs(fal)).proposal
    if proposed is None:
        assert found is None
        return
    assert found is not None
    sent = json.loads(found.model_dump_json())
    assert (sent["base_seconds"], sent["base_usd"], sent["usd_per_second"], sent["when"]) == proposed
    body = PriceBody.model_validate(sent)
    assert compare(KLING, [as_price(body)], theirs(fal)).verdict == "agrees"


def as_price(body: PriceBody) -> Price:
    return replace(
        MASTER,
        when=body.when,
        base_seconds=body.base_seconds,
        base_usd=body.base_usd,
        usd_per_second=body.usd_per_second,
    )


class Told:
    """A fal that says this of its prices."""

    def __init__(self, told: Mapping[str, UnitPrice] | Trouble) -> None:
        self.told = told
        self.asked: list[str] = []

    async def prices(self, endpoints: Sequence[str]) -> UnitPrices | Trouble:
        self.asked += endpoints
        return self.told if isinstance(self.told, Trouble) else UnitPrices(self.told)


async def check(house: House, told: Told) -> dict[str, str]:
    found = await check_prices(house.db, cast("Platform", told), house.wiring.catalogue, now=house.clock())
    return {one.endpoint: one.verdict for one in found}


async def test_each_endpoint_of_the_catalogue_is_compared_by_the_prices_in_force(house: House) -> None:
    every = [endpoint.id for endpoint in house.wiring.catalogue.endpoints]
    told = Told({KLING.id: theirs("0.28")})
    found = await check(house, told)
    assert told.asked == list(found) == every
    assert {verdict for endpoint, verdict in found.items() if endpoint != KLING.id} == {"not_listed"}
    assert found[KLING.id] == "agrees"
    body = {"endpoint": KLING.id, "base_seconds": 5, "base_usd": "1.50", "usd_per_second": "0.30"}
    starts_at = house.clock() + timedelta(days=1)
    async with house.db.begin() as tx:
        await create_price(
            tx,
            PriceBody.model_validate(body | {"starts_at": starts_at}),
            catalogue=house.wiring.catalogue,
            actor=COMMAND_LINE,
            now=house.clock(),
        )
    assert (await check(house, told))[KLING.id] == "agrees", "it has not started"
    house.clock.advance(days=1)
    assert (await check(house, told))[KLING.id] == "differs"
    async with house.db.reading() as tx:
        (in_force,) = await find_prices(tx, at=house.clock(), endpoint=KLING.id)
    assert in_force.base_usd == Decimal("1.50")


@pytest.mark.parametrize(
    ("trouble", "words", "retry_after"),
    [
        (Trouble("fal answered 401", 401), "FAL_KEY (401)", "30"),
        (Trouble("fal answered 403", 403), "FAL_KEY (403)", "30"),
        (Trouble("fal answered 429", 429, 77), "fal answered 429", "77"),
        (Trouble("ConnectError", None, 10**6), "ConnectError", "3600"),
    ],
)
async def test_a_list_that_cannot_be_read_is_one_problem(
    house: House, trouble: Trouble, words: str, retry_after: str
) -> None:
    with pytest.raises(PricesAway) as raised:
        await check(house, Told(trouble))
    assert words in raised.value.detail
    assert raised.value.headers["Retry-After"] == retry_after
    assert raised.value.status == 503

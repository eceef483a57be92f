"""What each model costs, by the defaulted input: as the catalogue prices it, and as fal would bill it."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from app.catalogue.endpoint import Endpoint
from app.catalogue.prices import ModelUnpriced, Price, price_of
from app.catalogue.registry import load_catalogue
from app.jobs.submits.request import as_given
from app.sandbox.prices import unit_price
from app.sandbox.validation import asked_seconds, find_problems

README: Final = Path(__file__).parents[2] / "README.md"
KLING: Final = "fal-ai/kling-video"
VEO: Final = "fal-ai/veo3.1"
NOW: Final = datetime(2026, 5, 4, tzinfo=UTC)
CATALOGUE: Final = load_catalogue()
ROWS: Final = [
    Price(
        id=uuid4(),
        endpoint=endpoint.id,
        when=seed.when,
        base_seconds=seed.base_seconds,
        base_usd=seed.base_usd,
        usd_per_second=seed.usd_per_second,
        starts_at=NOW,
    )
    for endpoint in CATALOGUE.endpoints
    for seed in endpoint.prices
]
IMAGE: Final = {"image_url": "https://example.com/a.png"}
START: Final = {"start_image_url": "https://example.com/a.png"}

# The endpoint, what is asked for, seconds, dollars; with the words of FAL.md 7.1 and 7.3.
TABLE: Final[list[tuple[str, dict[str, Any], int, str]]] = [
    # FAL.md 7.1: "$1.40 for 5 s and $0.28 for each further second, both endpoints: 5 s = $1.40, 10 s = $2.80"
    (f"{KLING}/v2.1/master/text-to-video", {}, 5, "1.40"),
    (f"{KLING}/v2.1/master/text-to-video", {"duration": 10}, 10, "2.80"),
    (f"{KLING}/v2.1/master/image-to-video", IMAGE, 5, "1.40"),
    (f"{KLING}/v2.1/master/image-to-video", {**IMAGE, "duration": "10"}, 10, "2.80"),
    # "$0.28 for 5 s + $0.056/s"
    (f"{KLING}/v2.1/standard/image-to-video", IMAGE, 5, "0.28"),
    (f"{KLING}/v2.1/standard/image-to-video", {**IMAGE, "duration": "10"}, 10, "0.56"),
    # "$0.49 for 5 s + $0.098/s"; a last image costs nothing
    (f"{KLING}/v2.1/pro/image-to-video", IMAGE, 5, "0.49"),
    (f"{KLING}/v2.1/pro/image-to-video", {**IMAGE, "tail_image_url": "https://b.c/d.png"}, 5, "0.49"),
    (f"{KLING}/v2.1/pro/image-to-video", {**IMAGE, "duration": "10", "tail_image_url": None}, 10, "0.98"),
    # "$0.35 for 5 s + $0.07/s"
    (f"{KLING}/v2.5-turbo/pro/text-to-video", {}, 5, "0.35"),
    (f"{KLING}/v2.5-turbo/pro/text-to-video", {"duration": 10}, 10, "0.70"),
    (f"{KLING}/v2.5-turbo/pro/image-to-video", IMAGE, 5, "0.35"),
    (f"{KLING}/v2.5-turbo/pro/image-to-video", {**IMAGE, "duration": "10"}, 10, "0.70"),
    # "$0.21 for 5 s + $0.042/s"
    (f"{KLING}/v2.5-turbo/standard/image-to-video", IMAGE, 5, "0.21"),
    (f"{KLING}/v2.5-turbo/standard/image-to-video", {**IMAGE, "duration": "10"}, 10, "0.42"),
    # "$0.07/s silent, $0.14 audio … generate_audio defaults to true"
    (f"{KLING}/v2.6/pro/image-to-video", START, 5, "0.70"),
    (f"{KLING}/v2.6/pro/image-to-video", {**START, "generate_audio": True}, 5, "0.70"),
    (f"{KLING}/v2.6/pro/image-to-video", {**START, "generate_audio": False}, 5, "0.35"),
    (f"{KLING}/v2.6/pro/image-to-video", {**START, "end_image_url": "https://b.c/d.png", "duration": 10}, 10, "1.40"),
    (f"{KLING}/v2.6/pro/text-to-video", {}, 5, "0.70"),
    (f"{KLING}/v2.6/pro/text-to-video", {"duration": "10", "generate_audio": False}, 10, "0.70"),
    # "$0.20/s silent, $0.40 audio (720p/1080p); 4k $0.40/$0.60; default "8s", audio default true"
    (VEO, {}, 8, "3.20"),
    (VEO, {"generate_audio": False}, 8, "1.60"),
    (VEO, {"duration": "4s", "resolution": "1080p"}, 4, "1.60"),
    (VEO, {"duration": 6, "resolution": "1080p", "generate_audio": False}, 6, "1.20"),
    (VEO, {"resolution": "4k"}, 8, "4.80"),
    (VEO, {"resolution": "4k", "generate_audio": False, "duration": 4}, 4, "1.60"),
]


def find(endpoint_id: str) -> Endpoint:
    endpoint = CATALOGUE.by_id(endpoint_id)
    assert endpoint
    return endpoint


@pytest.mark.parametrize(("endpoint_id", "asked", "seconds", "dollars"), TABLE)
def test_the_defaulted_input_is_what_is_priced(
    endpoint_id: str, asked: dict[str, Any], seconds: int, dollars: str
) -> None:
    endpoint = find(endpoint_id)
    fields = endpoint.input.model_validate({"prompt": "x", **asked})
    shown, _ = as_given(endpoint, fields)
    assert endpoint.seconds(fields) == seconds
    price = price_of(ROWS, endpoint=endpoint_id, given=shown, now=NOW)
    assert price.usd(endpoint.seconds(fields)) == Decimal(dollars)


def test_every_endpoint_stands_in_the_table() -> None:
    assert {endpoint_id for endpoint_id, *_ in TABLE} == {endpoint.id for endpoint in CATALOGUE.endpoints}


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a field of this JSON schema takes; texts are short or as long as may be."""
    if "anyOf" in schema:
        return st.one_of([values(one) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("format") == "uri":
        return st.sampled_from(["https://example.com/a.png", "data:image/png;base64,QUFB"])
    return OF_TYPE[schema["type"]](schema)


OF_TYPE: Final[dict[str, Callable[[dict[str, Any]], st.SearchStrategy[Any]]]] = {
    "null": lambda _: st.none(),
    "boolean": lambda _: st.booleans(),
    "integer": lambda schema: st.integers(schema["minimum"], schema["maximum"]),
    "number": lambda schema: st.floats(schema["minimum"], schema["maximum"]),
    "string": lambda schema: (
        st.just("ü" * schema["maxLength"]) | st.text(min_size=schema.get("minLength", 0), max_size=9).filter(_is_kept)
    ),
}


def _is_kept(text: str) -> bool:
    return "\0" not in text and text.isprintable()


@st.composite
def asked_of(draw: st.DrawFn, endpoint: Endpoint) -> dict[str, Any]:
    schema = endpoint.input.model_json_schema()
    fields = {name: values(field) for name, field in schema["properties"].items()}
    required = {name: fields.pop(name) for name in schema["required"]}
    return draw(st.fixed_dictionaries(required, optional=fields))


@pytest.mark.parametrize("endpoint", CATALOGUE.endpoints, ids=lambda endpoint: endpoint.id)
@drawn(data=st.data())
@settings(max_examples=30)
def test_every_valid_input_has_one_price_which_is_what_fal_bills(endpoint: Endpoint, data: st.DataObject) -> None:
    """And fal, which knows no null and no integers for seconds, finds nothing wrong with what it is sent."""
    asked = data.draw(asked_of(endpoint))
    fields = endpoint.input.model_validate_json(json.dumps(asked))
    shown, sent = as_given(endpoint, fields)
    at_fal = shown if sent is None else json.loads(sent)
    seconds = endpoint.seconds(fields)
    usd = price_of(ROWS, endpoint=endpoint.id, given=shown, now=NOW).usd(seconds)
    assert find_problems(endpoint.id, at_fal) == []
    assert asked_seconds(endpoint.id, at_fal) == asked_seconds(endpoint.id, asked) == seconds
    assert usd == unit_price(endpoint.id, at_fal) * seconds == unit_price(endpoint.id, asked) * seconds
    assert usd > 0


WHENS = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([True, False, 0, 1, "1", "x"]), max_size=2)


@drawn(st.lists(st.tuples(WHENS, st.integers(-2, 1)), max_size=8), WHENS)
def test_a_price_is_the_only_one_that_matches_or_there_is_none(
    rows: list[tuple[dict[str, Any], int]], asked: dict[str, Any]
) -> None:
    prices = [
        Price(id=uuid4(), endpoint="e", when=when, base_seconds=Decimal(0), base_usd=Decimal(place),
              usd_per_second=Decimal(0), starts_at=NOW + timedelta(days=day))
        for place, (when, day) in enumerate(rows)
    ]  # fmt: skip
    # JSON tells true from 1, as PostgreSQL does where it says which rows are of one `when`
    in_force = {json.dumps(price.when, sort_keys=True) for price in prices if price.starts_at <= NOW}
    given = set(map(json.dumps, asked.items()))
    matching = [when for when in in_force if set(map(json.dumps, json.loads(when).items())) <= given]
    try:
        found = price_of(prices, endpoint="e", given=asked, now=NOW)
    except ModelUnpriced:
        assert len(matching) != 1
    else:
        assert matching == [json.dumps(found.when, sort_keys=True)]
        same = [price for price in prices if json.dumps(price.when, sort_keys=True) == matching[0]]
        assert found.starts_at == max(price.starts_at for price in same if price.starts_at <= NOW)


def test_an_unknown_combination_has_no_price() -> None:
    rows = [row for row in ROWS if row.when != {"resolution": "4k", "generate_audio": True}]
    with pytest.raises(ModelUnpriced, match="no price"):
        price_of(rows, endpoint=VEO, given={"resolution": "4k", "generate_audio": True}, now=NOW)


def test_names_are_told_apart() -> None:
    inputs = Counter(endpoint.input.__name__ for endpoint in CATALOGUE.endpoints)
    assert set(inputs.values()) == {1}, "OpenAPI names each by its class"
    for endpoint in CATALOGUE.endpoints:
        assert CATALOGUE.find(endpoint.category, endpoint.model) is endpoint
        assert CATALOGUE.find(endpoint.category, endpoint.id) is endpoint
        assert set(endpoint.image_fields) == {name for name in endpoint.input.model_fields if "image" in name}


def test_the_readme_tells_them_all() -> None:
    lines = [line for line in README.read_text().splitlines() if "| `fal-ai/" in line]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    told = {(model, endpoint_id): (a_second, usual) for model, endpoint_id, a_second, usual in rows}
    assert told.keys() == {(endpoint.model, endpoint.id) for endpoint in CATALOGUE.endpoints}
    for endpoint in CATALOGUE.endpoints:
        a_second, usual = told[endpoint.model, endpoint.id]
        assert set(re.findall(r"\$([0-9.]+)", a_second)) == {f"{seed.usd_per_second}" for seed in endpoint.prices}
        fields = endpoint.input.model_validate(
            {"prompt": "x", **(START if "2.6" in endpoint.id else IMAGE)}, extra="ignore"
        )
        seconds, dollars = endpoint.seconds(fields), usual.rpartition("$")[2]
        price = price_of(ROWS, endpoint=endpoint.id, given=as_given(endpoint, fields)[0], now=NOW)
        assert usual.startswith(f"{seconds} s")
        assert price.usd(seconds) == Decimal(dollars)

"""Money as text: exact both ways, never an exponent, and the same in Python and in SQL."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.db import Database
from app.money import GREATEST, decimal_text, parse_decimal, sql_decimal_text

nanos = st.integers(min_value=-int(GREATEST.scaleb(9)), max_value=int(GREATEST.scaleb(9)))
amounts = st.one_of(
    nanos.map(lambda nano: Decimal(nano).scaleb(-9)),
    st.decimals(-1000, 1000, places=2),
    st.decimals(-10, 10, places=9),
    st.integers(-(10**11) + 1, 10**11 - 1).map(Decimal),
)


@given(amounts)
def test_an_amount_is_read_back_as_it_was_written(amount: Decimal) -> None:
    text = decimal_text(amount)
    assert parse_decimal(text) == amount
    assert re.fullmatch(r"-?(0|[1-9]\d*)\.\d{2,9}", text)
    assert not re.search(r"\.\d{2,}0$", text), "no zero beyond the cents"


@given(amounts.filter(bool))
def test_sums_are_exact(amount: Decimal) -> None:
    assert decimal_text(amount + amount - amount) == decimal_text(amount)


@pytest.mark.parametrize(
    ("given_value", "text"),
    [
        ("1.4", "1.40"),
        (14, "14.00"),
        ("0", "0.00"),
        ("-0", "0.00"),
        ("-0.00", "0.00"),
        ("0.000000001", "0.000000001"),
        ("100", "100.00"),
        ("1000000", "1000000.00"),
        ("99999999999.999999999", "99999999999.999999999"),
        ("0.10", "0.10"),
        ("0.123", "0.123"),
        ("1.400000000000", "1.40"),
    ],
)
def test_known_figures(given_value: object, text: str) -> None:
    assert decimal_text(parse_decimal(given_value)) == text


@pytest.mark.parametrize(
    "nonsense",
    [
        1.4, 0.0, True, None, [], {}, "", " ", "1e5", "1E-3", "NaN", "Infinity", "-Infinity", "1,4", "1_000", "--1",
        "1-", "+-1", "0x10", "1.2.3", " 1", "1 ", "1\n", "0.0000000001", "100000000000", 10**11, "9" * 5000, "²", "1/2",
        "$1.40", "-",
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_in_words(nonsense: object) -> None:
    with pytest.raises(ValueError, match=r"give a decimal string|at most 11 digits"):
        parse_decimal(nonsense)


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=30), st.from_regex(r"^-?[0-9.eE_+]{1,40}$"), st.integers(), st.floats()))
def test_any_value_is_read_or_refused(value: Any) -> None:
    try:
        amount = parse_decimal(value)
    except ValueError:
        return
    assert abs(amount) <= GREATEST
    assert parse_decimal(decimal_text(amount)) == amount


async def test_sql_writes_amounts_as_python_does(db: Database) -> None:
    found: list[Decimal] = []

    @settings(max_examples=1500, database=None)
    @given(amounts)
    def collect(amount: Decimal) -> None:
        found.append(amount)

    collect()
    found += [Decimal(text) for text in ("0", "-0.01", "0.1", "0.001", "1.4", "100", "1E+3", "0E-9")]
    async with db.plain() as plain:
        rows = await plain.fetch(
            f"SELECT a::numeric(20,9) AS amount, {sql_decimal_text('a::numeric(20,9)')} AS text "  # noqa: S608
            "FROM unnest($1::numeric[]) AS t (a)",
            found,
        )
    assert len(rows) > 500
    for row in rows:
        assert row["text"] == decimal_text(row["amount"])

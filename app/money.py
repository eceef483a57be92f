"""Money and every figure of a quota: Decimal here, NUMERIC(20,9) in Postgres, strings in JSON. No float."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

PLACES: Final = 9
ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
GREATEST: Final = Decimal("99999999999.999999999")  # what NUMERIC(20,9) can hold
NANO: Final = Decimal(1).scaleb(-PLACES)
_CENT: Final = Decimal("0.01")
_DECIMAL_PATTERN: Final = r"^-?[0-9]{1,11}(\.[0-9]{1,9})?$"


def decimal_text(amount: Decimal) -> str:
    """`Decimal("1.4")` → `"1.40"`: two decimals at least, nine at most, never an exponent."""
    exact = amount.quantize(NANO).normalize()
    exponent = exact.as_tuple().exponent
    return f"{exact.quantize(_CENT) if isinstance(exponent, int) and exponent >= -1 else exact:f}"


def sql_decimal_text(expression: str) -> str:
    """The SQL that writes a NUMERIC(20,9) as `decimal_text` does."""
    return (
        f"(CASE WHEN scale(trim_scale({expression})) < 2 THEN round({expression}, 2) "
        f"ELSE trim_scale({expression}) END)::text"
    )


def parse_decimal(value: object) -> Decimal:
    """A string or an integer, as requests give figures; a JSON fraction would already have been a float.

    Raises ValueError, in words for the caller.
    """
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        message = 'give a decimal string such as "14.00", or an integer'
        raise ValueError(message)  # noqa: TRY004  pydantic shows a ValueError to the caller
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or (
        isinstance(value, str) and not (value.isascii() and value.strip("-").replace(".", "", 1).isdigit())
    ):
        message = 'give a decimal string such as "14.00", or an integer'
        raise ValueError(message)
    if abs(amount) > GREATEST or amount != amount.quantize(NANO):
        message = f"at most 11 digits before the point and {PLACES} after it"
        raise ValueError(message)
    return amount + 0  # "-0" is 0


Amount = Annotated[
    Decimal,
    BeforeValidator(parse_decimal),
    PlainSerializer(decimal_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DECIMAL_PATTERN, "examples": ["14.00"]}, mode="serialization"),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": _DECIMAL_PATTERN}, {"type": "integer"}],
            "examples": ["14.00"],
        },
        mode="validation",
    ),
]

"""The values that bodies of this room are made of: names, emails, moments."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

# No control character, no lone surrogate, no space at either end.
_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
_NAME: Final = rf"^[^\s{_CONTROLS}]([^{_CONTROLS}]*[^\s{_CONTROLS}])?$"
_EMAIL: Final = rf"^[^@\s{_CONTROLS}]+@[^@\s{_CONTROLS}]+$"
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _like(pattern: str, sentence: str) -> AfterValidator:
    """A check by pattern that says in words what would be right."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None or not is_unicode(value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def is_unicode(value: str) -> bool:
    """JSON can spell half a character, a lone surrogate, which Postgres cannot store."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


Name = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra={"pattern": _NAME}),
    _like(_NAME, "this holds no control characters and neither begins nor ends with a space"),
]
ExternalId = Annotated[Name, Field(description="What another system of yours calls it; unique.", examples=["cc-4711"])]
Email = Annotated[
    str,
    Field(min_length=3, max_length=320, json_schema_extra={"pattern": _EMAIL}, examples=["ann@example.org"]),
    _like(_EMAIL, "an email address has one @, something on both sides of it, and no spaces"),
    AfterValidator(str.lower),
]


def _written_out(value: Any) -> Any:
    """Neither a number of seconds nor a date alone: pydantic would take both."""
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.fullmatch(value)):
        return value
    raise ValueError("a moment is written like 2026-01-31T12:00:00Z, with its zone")


def _in_utc(value: datetime) -> datetime:
    """The ends of Python's calendar are left out: asyncpg takes them for Postgres' infinity."""
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if not 1970 <= moment.year <= 9998:  # noqa: PLR2004
        raise ValueError("this moment lies outside the years 1970 to 9998")
    return moment


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_written_out),
    AfterValidator(_in_utc),
    Field(examples=["2027-01-31T12:00:00Z"]),
]
"""A moment with its zone, RFC 3339; UTC once it is in."""

ABSENT: Final[Any] = Field(default_factory=lambda: None)
"""The default of a field that a PATCH may leave out but not set to null; see `model_fields_set`."""

"""What stands on the wire of closing: months, and what is still held from them."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from app.catalogue.fields import NO_NUL
from app.http import Body, ListQuery, is_cursor
from app.ids import ClosingId, JobId
from app.money import Amount

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


def parse_month(value: Any) -> date:
    """`2026-10` → its first day. Raises ValueError, in words, for what is no month of the years 1970 to 9998."""
    if isinstance(value, date):
        return value
    written = _MONTH.fullmatch(value) if isinstance(value, str) else None
    if written is None:
        message = "a month is written like 2026-10"
        raise ValueError(message)
    if not 1970 <= int(written[1]) <= 9998:  # noqa: PLR2004  as every moment
        message = "this month lies outside the years 1970 to 9998"
        raise ValueError(message)
    return date(int(written[1]), int(written[2]), 1)


def show_month(month: date) -> str:
    """The inverse: how a month is written everywhere outside the database."""
    return f"{month:%Y-%m}"


MonthText = Annotated[
    date,
    BeforeValidator(parse_month),
    PlainSerializer(show_month, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[0-2])$", "examples": ["2026-10"]}),
]
_Seconds = Annotated[
    Decimal, PlainSerializer(lambda seconds: float(seconds)), WithJsonSchema({"type": "number"})  # noqa: PLW0108
]


class Month(BaseModel):
    """A month that was closed: its totals as they stood then, and as they stay until it is reopened."""

    id: ClosingId
    month: MonthText
    starts_at: datetime
    ends_at: datetime
    charged_usd: Amount
    seconds: _Seconds
    jobs: Annotated[int, Field(description="Accepted in it, those included that were still under way.")]
    succeeded: int
    failed: int
    canceled: int
    held_usd: Annotated[Amount, Field(description="Promised in it, and still held when it was closed.")]
    held_jobs: int
    closed_at: datetime
    closed_by: str
    reopened_at: datetime | None = None
    reopened_by: str | None = None
    reopen_note: str | None = None


class Closing(BaseModel):
    """What was closed, the oldest first, and what is still held from it and from the months before."""

    closed: list[Month]
    held_usd: Amount
    held_jobs: int
    held_job_ids: Annotated[list[JobId], Field(description="The first 100 of them; charged in the open month.")]


class Reopening(Body):
    """Why the month has to be opened again."""

    note: Annotated[str, Field(min_length=1, max_length=1000, description="Why."), NO_NUL]


class MonthQuery(ListQuery):
    """A page of closed months."""

    cursor: Annotated[
        str | None, Field(description="`next_cursor` of the page before.", max_length=200), is_cursor("closing")
    ] = None

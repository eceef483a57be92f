"""How the lines of a reconciliation are written as CSV."""

import csv
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from io import StringIO
from typing import BinaryIO, Final
from uuid import UUID

from app.ids import show
from app.money import decimal_text
from app.reports.csv import safe_cell
from app.reports.fal_bill.lists import Line

COLUMNS: Final = (
    "list",
    "fal_request_id",
    "job_id",
    "job_status",
    "endpoint",
    "model",
    "team_id",
    "user_id",
    "ours_usd",
    "fal_usd",
    "difference_usd",
    "charged_at",
    "billed_at",
    "paid_with",
    "adjusted_by_hand",
)


async def write_csv(pages: AsyncGenerator[Sequence[Line]], file: BinaryIO) -> None:
    """A header and a line for each, into `file`."""
    _write([COLUMNS], file)
    async with aclosing(pages):
        async for lines in pages:
            _write([_cells(line) for line in lines], file)


def _write(rows: Sequence[Sequence[str]], file: BinaryIO) -> None:
    text = StringIO()
    csv.writer(text).writerows(rows)
    file.write(text.getvalue().encode())


def _cells(line: Line) -> list[str]:
    return [
        line.list,
        safe_cell(line.fal_request_id or ""),
        _id("job", line.job_id),
        line.job_status or "",
        safe_cell(line.endpoint),
        line.model or "",
        _id("team", line.team_id),
        _id("user", line.user_id),
        decimal_text(line.ours_usd),
        decimal_text(line.fal_usd),
        decimal_text(line.fal_usd - line.ours_usd),
        _moment(line.charged_at),
        _moment(line.billed_at),
        safe_cell(line.paid_with or ""),
        "true" if line.is_by_hand else "false",
    ]


def _id(prefix: str, made: UUID | None) -> str:
    return "" if made is None else show(prefix, made)


def _moment(at: datetime | None) -> str:
    return "" if at is None else at.isoformat().replace("+00:00", "Z")

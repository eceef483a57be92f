"""How the lines of a reconciliation are written as CSV: the members of a line on the wire, and the same values."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import BinaryIO

from app.reports.csv import safe_cell, written
from app.reports.fal_bill.lists import Line
from app.reports.fal_bill.shapes import ReconciliationLine, show_line


async def write_csv(pages: AsyncGenerator[Sequence[Line]], file: BinaryIO) -> None:
    """A header and a line for each, into `file`."""
    file.write(written([[*ReconciliationLine.model_fields]]))
    async with aclosing(pages):
        async for lines in pages:
            file.write(written(map(_cells, lines)))


def _cells(line: Line) -> list[str]:
    return [_cell(name, value) for name, value in show_line(line).model_dump(mode="json").items()]


def _cell(name: str, value: str | bool | None) -> str:  # noqa: FBT001  as JSON has it
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is not None and name.endswith("_usd") else safe_cell(value)

"""What every CSV of ours is: its media type, and cells that no spreadsheet takes for a formula."""

import csv
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Final

MEDIA_TYPE: Final = "text/csv; charset=utf-8; header=present"
"""RFC 4180 and 7111: comma separated, CRLF, UTF-8 without a mark, one header line."""

_FORMULA: Final = re.compile(r" *[=+\-@\t\r]")


def written(lines: Iterable[Sequence[object]]) -> bytes:
    """Some lines, each with its end."""
    text = StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def total_cells(groups: int) -> list[str]:
    """How the last line of a report begins, which is the total: it says so in the first of its groups' cells.

    A report that is grouped by nothing has one line, which is the total.
    """
    return ["total", *("" for _ in range(groups - 1))] if groups else []


def safe_cell(text: str | None) -> str:
    """A text of somebody else's as a cell: what a spreadsheet would run begins with an apostrophe instead.

    A spreadsheet runs what begins with `=`, `+`, `-`, `@`, a tab or a carriage return, also after spaces. Figures of
    ours are not for this: a negative amount stays a number.
    """
    if text is None:
        return ""
    return f"'{text}" if _FORMULA.match(text) else text

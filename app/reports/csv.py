"""What every CSV of ours is: its media type, and cells that no spreadsheet takes for a formula."""

import csv
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Final

MEDIA_TYPE: Final = "text/csv; charset=utf-8; header=present"
"""RFC 4180 and 7111: comma separated, CRLF, UTF-8 without a mark, one header line."""

_UNSEEN: Final = (
    r"\u0001-\u0020\u007F-\u00A0\u00AD\u034F\u061C\u115F\u1160\u1680\u17B4\u17B5\u180B-\u180F\u2000-\u200F\u2028-\u202F"
    r"\u205F-\u206F\u2800\u3000\u3164\uFE00-\uFE0F\uFEFF\uFFA0"
)
_OPENS: Final = r"=+\-@\uFF1D\uFF0B\uFF0D\uFF20"  # also in full width, which a Japanese Excel takes for the same
FORMULA: Final = rf"^(?:[{_UNSEEN}]*[{_OPENS}]|[\t\r\n])"
"""What a spreadsheet might run, in Python and in Postgres: both read this the same.

It begins with `=`, `+`, `-` or `@`, after nothing that can be seen, or with a tab or the end of a line (OWASP, CSV
injection).
"""
_FORMULA: Final = re.compile(FORMULA)


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

    Figures of ours are not for this: a negative amount stays a number.
    """
    if text is None:
        return ""
    return f"'{text}" if _FORMULA.match(text) else text

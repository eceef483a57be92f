"""What every CSV of ours is: its media type, and cells that no spreadsheet takes for a formula."""

import re
from typing import Final

MEDIA_TYPE: Final = "text/csv; charset=utf-8; header=present"
"""RFC 4180 and 7111: comma separated, CRLF, UTF-8 without a mark, one header line."""

_FORMULA: Final = re.compile(r" *[=+\-@\t\r]")


def safe_cell(text: str) -> str:
    """A text of somebody else's as a cell: what a spreadsheet would run begins with an apostrophe instead.

    A spreadsheet runs what begins with `=`, `+`, `-`, `@`, a tab or a carriage return, also after spaces. Figures of
    ours are not for this: a negative amount stays a number.
    """
    return f"'{text}" if _FORMULA.match(text) else text

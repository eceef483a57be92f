"""What every CSV of ours is: its media type, and cells that no spreadsheet takes for a formula."""

import re
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


def safe_cell(text: str) -> str:
    """A text of somebody else's as a cell: what a spreadsheet would run begins with an apostrophe instead.

    Figures of ours are not for this: a negative amount stays a number.
    """
    return f"'{text}" if _FORMULA.match(text) else text

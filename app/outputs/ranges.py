"""Range headers (RFC 9110, 14): one range of bytes; whatever else is asked for is answered with the whole."""

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`first` to `last`, both included; without `first` the last so many, without `last` to the end."""

    first: int | None
    last: int | None

    @property
    def header(self) -> str:
        """As a Range header has it."""
        return "bytes={}-{}".format(*("" if number is None else number for number in (self.first, self.last)))

    def within(self, size: int) -> tuple[int, int] | None:
        """Start and end (not included) in a file of this size; None: nothing of it is there."""
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start, end = self.first, size if self.last is None else min(self.last + 1, size)
        return (start, end) if start < end else None


def read_range(header: str | None) -> ByteRange | None:
    """None for none, for several, and for what is no range: those are to be passed over."""
    found = _RANGE.fullmatch((header or "").strip())
    if found is None:
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    return ByteRange(first, last)

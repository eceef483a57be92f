"""How a report of spend is written: JSON, CSV, and the name of its file."""

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from app.money import decimal_text
from app.reports.calendar import stamp
from app.reports.csv import safe_cell, total_cells, written
from app.reports.spend.groups import Groups
from app.reports.spend.report import FIGURES, Asked, Line, Total


def columns_of(groups: Groups) -> list[str]:
    """The header of a report: what its lines are of, then their figures."""
    return [*groups.members, *FIGURES]


def figures_of(total: Total) -> Line:
    """A total as a line has its figures."""
    seconds = f"{total.seconds.normalize():f}"
    return decimal_text(total.charged_usd), decimal_text(total.held_usd), seconds, *total.counts


class JsonReport:
    """Lines that become one JSON document."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._columns = columns_of(asked.groups)
        self._parts: list[bytes] = []

    def take(self, lines: Sequence[Line]) -> None:
        """Some more lines."""
        self._parts += [to_json(_object(self._columns, line)) for line in lines]

    def written(self, total: Total) -> bytes:
        """All of it."""
        period = self._asked.period
        rest = to_json(
            {
                "total": _object(FIGURES, figures_of(total)),
                "since": period.since,
                "until": period.until,
                "timezone": self._asked.zone.key,
            }
        )
        return b'{"data":[' + b",".join(self._parts) + b"]," + rest[1:]


class CsvReport:
    """Lines that become a CSV: a header, the lines, and a last line with the total."""

    def __init__(self, asked: Asked) -> None:
        self._of_groups = len(asked.groups.members)
        self._parts = [written([columns_of(asked.groups)])]

    def take(self, lines: Sequence[Line]) -> None:
        """Some more lines."""
        groups = self._of_groups
        if groups:
            self._parts.append(written([*map(safe_cell, line[:groups]), *line[groups:]] for line in lines))

    def written(self, total: Total) -> bytes:
        """All of it."""
        return b"".join([*self._parts, written([[*total_cells(self._of_groups), *figures_of(total)]])])


def file_name(asked: Asked) -> str:
    """`spend_2026-10-01_2026-11-01.csv`: from when until when, by the clocks of TIMEZONE."""
    return f"spend_{stamp(asked.period, asked.zone)}.csv"


def _object(names: Sequence[str], line: Line) -> dict[str, Any]:
    found = dict(zip(names, line, strict=True))
    found["seconds"] = float(found["seconds"])
    return found

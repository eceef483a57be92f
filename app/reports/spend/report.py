"""What was spent: charged, seconds and how many jobs, by day, team, tag or whatever else is asked for.

Each entry counts on the day it was booked. Sums by month and by day (`app.ledger.spend`) tell whole months and days,
entries the edges, or all of it where end users or tags are asked for; what is under way is added from jobs. All of it
is one statement, so that nothing is counted twice or missed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.db import Database
from app.money import ZERO
from app.problems import InvalidInput
from app.reports.limits import MOST_LINES, TIMEOUT, reading, require_lines
from app.reports.parameters import read_parameters
from app.reports.period import Faults, Period, read_period
from app.reports.spend.groups import Groups, read_groups
from app.reports.spend.sql import statement

_PAGE: Final = 1_000
_PARAMETERS: Final = ("since", "until", "group_by", "format")

Line = tuple[Any, ...]
"""`Spend.columns` of a group: texts, or None; the last seven are `FIGURES`."""

FIGURES: Final = ("charged_usd", "held_usd", "seconds", "jobs", "succeeded", "failed", "canceled")
"""The first three decimal strings, the others integers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report of spend is about."""

    period: Period
    groups: Groups
    zone: ZoneInfo
    now: datetime


@dataclass(slots=True)
class Total:
    """The sum of a report's lines, in the order of FIGURES."""

    charged_usd: Decimal = ZERO
    held_usd: Decimal = ZERO
    seconds: Decimal = ZERO
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def add(self, line: Line) -> None:
        """One more line."""
        charged_usd, held_usd, seconds, *counts = line[-len(FIGURES) :]
        self.charged_usd += Decimal(charged_usd)
        self.held_usd += Decimal(held_usd)
        self.seconds += Decimal(seconds)
        self.counts = [total + count for total, count in zip(self.counts, counts, strict=True)]


def read_asked(query: Sequence[tuple[str, str]], *, now: datetime, zone: ZoneInfo, faults: Faults) -> Asked:
    """What names and values, as they stand in a URL, ask for; `format` is another's to read.

    Raises InvalidInput with all faults at once: those that were found before and what is wrong here.
    """
    given = read_parameters(query, _PARAMETERS, faults)
    period = read_period(given.get("since"), given.get("until"), now=now, zone=zone, faults=faults)
    groups = read_groups(given.get("group_by"), faults)
    if faults:
        raise InvalidInput(faults)
    return Asked(period, groups, zone, now)


async def read_spend(db: Database, asked: Asked, *, actor: Actor, take: Callable[[Sequence[Line]], None]) -> Total:
    """Give `take` the lines that this actor may see, some at a time, in order; their sum.

    By period ascending, then by what was charged, the most first, then by the groups. A member sees its own, a lead
    its team's, others all: as of the hold. Raises ReportTooLarge.
    """
    sql, values = statement(asked.period, asked.groups, zone=asked.zone, now=asked.now, actor=actor, most=MOST_LINES)
    total, found = Total(), 0
    async with reading(db) as plain:
        cursor = await plain.cursor(sql, *values, timeout=TIMEOUT)
        while lines := [tuple(row) for row in await cursor.fetch(_PAGE, timeout=TIMEOUT)]:
            found += len(lines)
            require_lines(found)
            for line in lines:
                total.add(line)
            take(lines)
    return total

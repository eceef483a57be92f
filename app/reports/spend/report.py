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

import asyncpg

from app.accounts.callers import Actor
from app.db import Database
from app.money import ZERO
from app.problems import InvalidInput, Problem, cut
from app.reports.period import Faults, Period, read_period
from app.reports.spend.groups import Groups, read_groups
from app.reports.spend.sql import statement

MOST_LINES: Final = 50_000
LONGEST_SECONDS: Final = 40
"""Less than what any request may take."""

_PAGE: Final = 1_000
_PARAMETERS: Final = ("since", "until", "group_by", "format")
_SESSION: Final = "; ".join(
    (
        "SET TRANSACTION READ ONLY",
        f"SET LOCAL statement_timeout = '{LONGEST_SECONDS}s'",
        "SET LOCAL work_mem = '64MB'",
        "SET LOCAL random_page_cost = 1.1",
        "SET LOCAL plan_cache_mode = force_custom_plan",  # a plan for any period at all would be one for none
    )
)

Line = tuple[Any, ...]
"""`Spend.columns` of a group: texts, or None; the last seven are `FIGURES`."""

FIGURES: Final = ("charged_usd", "held_usd", "seconds", "jobs", "succeeded", "failed", "canceled")
"""The first three decimal strings, the others integers."""


class ReportTooLarge(Problem):
    """The report would have more lines than one answer takes, or would take too long to make.

    Narrow it: a shorter period between `since` and `until`, or fewer groupings in `group_by`. `limit_lines` and
    `limit_seconds` say what one report may be. Reports by `end_user` or tags read every entry of their period; the
    others are told from sums by day and month, and are quick whatever the period.
    """

    status = 422

    def __init__(self, detail: str) -> None:
        super().__init__(detail, limit_lines=MOST_LINES, limit_seconds=LONGEST_SECONDS)


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
    given: dict[str, list[str]] = {}
    for name, value in query:
        given.setdefault(name, []).append(value)
    for name, values in given.items():
        if name not in _PARAMETERS:
            faults.append({"parameter": cut(name), "detail": f"is not known here; known are {', '.join(_PARAMETERS)}"})
        elif name != "group_by" and len(values) > 1:
            faults.append({"parameter": name, "detail": "give it once"})
    since, until = (given.get(name, [None])[0] for name in ("since", "until"))
    period = read_period(since, until, now=now, zone=zone, faults=faults)
    groups = read_groups(given.get("group_by", []), faults)
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
    try:
        async with db.begin_plain(first=_SESSION) as plain:
            cursor = await plain.cursor(sql, *values, timeout=LONGEST_SECONDS + 5)
            while lines := [tuple(row) for row in await cursor.fetch(_PAGE, timeout=LONGEST_SECONDS + 5)]:
                found += len(lines)
                if found > MOST_LINES:
                    raise ReportTooLarge(f"It would have more than {MOST_LINES} lines: narrow it.")
                for line in lines:
                    total.add(line)
                take(lines)
    except asyncpg.QueryCanceledError:
        raise ReportTooLarge(f"It takes longer than {LONGEST_SECONDS} s: narrow it.") from None
    return total

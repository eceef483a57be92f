"""How large a report may be, and how long it may take."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from app.db import Database, Plain
from app.problems import Problem

MOST_LINES: Final = 50_000
LONGEST_SECONDS: Final = 40
"""Less than what any request may take."""
TIMEOUT: Final = LONGEST_SECONDS + 5
"""For the driver: Postgres is to give up first."""

_SESSION: Final = "; ".join(
    (
        "SET TRANSACTION READ ONLY",
        f"SET LOCAL statement_timeout = '{LONGEST_SECONDS}s'",
        "SET LOCAL work_mem = '64MB'",
        "SET LOCAL random_page_cost = 1.1",
        "SET LOCAL plan_cache_mode = force_custom_plan",  # a plan for any period at all would be one for none
    )
)


class ReportTooLarge(Problem):
    """The report would have more lines than one answer takes, or would take too long to make.

    Narrow it: a shorter period between `since` and `until`, or fewer groupings in `group_by`. `limit_lines` and
    `limit_seconds` say what one report may be. Reports by `end_user` or tags read every entry of their period; the
    others are told from sums by day and month, and are quick whatever the period.
    """

    status = 422

    def __init__(self, detail: str) -> None:
        super().__init__(detail, limit_lines=MOST_LINES, limit_seconds=LONGEST_SECONDS)


@asynccontextmanager
async def reading(db: Database) -> AsyncIterator[Plain]:
    """A transaction in which one report is read. Raises ReportTooLarge when a statement takes too long."""
    try:
        async with db.begin_plain(first=_SESSION) as plain:
            yield plain
    except asyncpg.QueryCanceledError:
        raise ReportTooLarge(f"It takes longer than {LONGEST_SECONDS} s: narrow it.") from None


def require_lines(lines: int) -> None:
    """Raises ReportTooLarge for more than one answer takes."""
    if lines > MOST_LINES:
        raise ReportTooLarge(f"It would have more than {MOST_LINES} lines: narrow it.")

"""The lists: for each fal request what fal billed beside what we charged, told from what is kept of both."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.db import Database, Plain
from app.money import ZERO
from app.reports.fal_bill.runs import Coverage, last_run, read_coverage
from app.reports.fal_bill.sql import GRACE, SQL_LINES, SQL_LINES_OF_JOB
from app.reports.limits import TIMEOUT, reading

LISTS: Final = ("matched", "differs", "ours_only", "fal_only", "pending")

_MOST_USD: Final = 1_000_000  # of one request, as by hand
_PAGE: Final = 1_000

_COLUMNS: Final = (
    "list, fal_request_id, job_id, job_status, endpoint, model, team_id, user_id, ours_usd, fal_usd, charged_at,"
    " billed_at, paid_with, is_by_hand, at, key"
)
_ORDER: Final = "ORDER BY at DESC, key DESC"
_SUMS: Final = """
SELECT list, count(*) AS requests, sum(ours_usd) AS ours_usd, sum(fal_usd) AS fal_usd,
       sum(abs(fal_usd - ours_usd)) AS apart_usd FROM lines GROUP BY list
"""
_PAGE_WITH_SUMS: Final = f"""{SQL_LINES}
SELECT s.*, p.* FROM (SELECT array_agg(t) AS sums FROM ({_SUMS}) t) s
LEFT JOIN LATERAL (
    SELECT {_COLUMNS} FROM lines
    WHERE ($6::text IS NULL OR list = $6) AND ($7::timestamptz IS NULL OR (at, key) < ($7, $8)) {_ORDER} LIMIT $9
) p ON true
{_ORDER}
"""  # noqa: S608  ours
_ALL: Final = f"{SQL_LINES} SELECT {_COLUMNS} FROM lines WHERE $6::text IS NULL OR list = $6 {_ORDER}"  # noqa: S608  ours
_FIRST_WITH_SUMS: Final = f"""{SQL_LINES}
SELECT s.*, p.* FROM (SELECT array_agg(t) AS sums FROM ({_SUMS}) t) s
LEFT JOIN (
    SELECT {_COLUMNS} FROM (
        SELECT *, row_number() OVER (PARTITION BY list {_ORDER}) AS place FROM lines WHERE list <> 'matched'
    ) numbered WHERE place <= $6
) p ON true
{_ORDER}
"""  # noqa: S608  ours

# What may be booked by itself: where the bill of the time that the job ended in was read, so that what is kept is not
# merely a late part of it, and where it says what can have been paid. The rest is for a person.
_IS_SURE: Final = f"""list IN ('differs', 'ours_only') AND NOT is_by_hand AND fal_usd BETWEEN 0 AND {_MOST_USD}
  AND ($2::timestamptz[])[width_bucket(finished_at, $1::timestamptz[])] IS NOT NULL"""

# What --adjust may book, by job. That fal's bill does not name a request says something only if it is the bill of the
# account that the request was sent to: of that FAL_KEY it names others.
_ADJUSTABLE: Final = f"""{SQL_LINES}
SELECT job_id, array_agg(fal_request_id) AS fal_request_ids FROM lines
WHERE {_IS_SURE} AND fal_request_id IS NOT NULL AND (list = 'differs' OR is_key_billed)
GROUP BY job_id ORDER BY job_id
"""  # noqa: S608  ours
_OF_JOB: Final = f"""{SQL_LINES_OF_JOB}
SELECT fal_request_id, ours_usd, fal_usd, ours_seconds, job_seconds, fal_units, corrections FROM lines
WHERE {_IS_SURE} AND fal_request_id = ANY($5) ORDER BY fal_request_id
"""  # noqa: S608  ours


@dataclass(frozen=True, slots=True)
class Line:
    """A fal request on one of LISTS; without a fal request it is a charge that none is known of.

    `is_by_hand`: somebody has adjusted the job since. (`at`, `key`) is its place, the newest first.
    """

    list: str
    fal_request_id: str | None
    job_id: UUID | None
    job_status: str | None
    endpoint: str
    model: str | None
    team_id: UUID | None
    user_id: UUID | None
    ours_usd: Decimal
    fal_usd: Decimal
    charged_at: datetime | None
    billed_at: datetime | None
    paid_with: str | None
    is_by_hand: bool
    at: datetime
    key: str


@dataclass(frozen=True, slots=True)
class Sum:
    """What the requests of a list come to; `apart_usd` is by how much they differ, whichever way."""

    requests: int = 0
    ours_usd: Decimal = ZERO
    fal_usd: Decimal = ZERO
    apart_usd: Decimal = ZERO


Sums = dict[str, Sum]
"""Of each of LISTS."""


@dataclass(frozen=True, slots=True)
class Lines:
    """A page of lines, the newest first; the sums of all lists; and the run that was the last."""

    lines: list[Line]
    has_more: bool
    sums: Sums
    last_run: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Adjustable:
    """Jobs whose charge fal's bill contradicts, the fal requests that it is about, and what was known of the bill."""

    fal_request_ids: dict[UUID, list[str]]
    known: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """What is wrong with what we charged for a fal request of a job, by fal's bill."""

    fal_request_id: str
    ours_usd: Decimal
    fal_usd: Decimal
    ours_seconds: Decimal
    job_seconds: Decimal
    fal_units: Decimal | None
    corrections: int


async def read_lines(
    db: Database,
    since: datetime,
    until: datetime,
    *,
    name: str | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> Lines:
    """A page of the requests billed or charged in [since, until), of one list or of all. Raises ReportTooLarge."""
    async with _reading(db) as (plain, known):
        place = after or (None, None)
        found = await plain.fetch(_PAGE_WITH_SUMS, *known, since, until, name, *place, limit + 1, timeout=TIMEOUT)
        run = await last_run(plain)
    sums = _sums(found[0]["sums"] or [])
    lines = [_line(row) for row in found if row["key"] is not None]
    return Lines(lines[:limit], len(lines) > limit, sums, run)


async def read_first_lines(db: Database, since: datetime, until: datetime, *, first: int) -> tuple[Sums, list[Line]]:
    """The sums of the requests billed or charged in [since, until), and the newest of each list but `matched`.

    Raises ReportTooLarge.
    """
    async with _reading(db) as (plain, known):
        found = await plain.fetch(_FIRST_WITH_SUMS, *known, since, until, first, timeout=TIMEOUT)
    return _sums(found[0]["sums"] or []), [_line(row) for row in found if row["key"] is not None]


async def read_all_lines(
    db: Database, since: datetime, until: datetime, *, name: str | None = None
) -> AsyncGenerator[Sequence[Line]]:
    """All of them, some at a time, within one transaction: whoever takes them must not wait for anybody."""
    async with _reading(db) as (plain, known):
        cursor = await plain.cursor(_ALL, *known, since, until, name, timeout=TIMEOUT)
        while rows := await cursor.fetch(_PAGE, timeout=TIMEOUT):
            yield [_line(row) for row in rows]


async def read_adjustable(db: Database, since: datetime, until: datetime) -> Adjustable:
    """The jobs whose charge is not what fal billed. Raises ReportTooLarge."""
    async with _reading(db) as (plain, known):
        rows = await plain.fetch(_ADJUSTABLE, *known, since, until, timeout=TIMEOUT)
    return Adjustable({row["job_id"]: row["fal_request_ids"] for row in rows}, known)


async def read_corrections(plain: Plain, adjustable: Adjustable, job_id: UUID) -> list[Correction]:
    """As things stand in this transaction; what was one and is none any more is left out."""
    fal_request_ids = adjustable.fal_request_ids[job_id]
    rows = await plain.fetch(_OF_JOB, *adjustable.known, job_id, fal_request_ids, timeout=TIMEOUT)
    return [Correction(*row.values()) for row in rows]


@asynccontextmanager
async def _reading(db: Database) -> AsyncIterator[tuple[Plain, tuple[Any, ...]]]:
    async with reading(db) as plain:
        yield plain, _known(await read_coverage(plain))


def _known(coverage: Coverage) -> tuple[Any, ...]:
    return coverage.bounds, coverage.read_at, GRACE


def _line(row: Any) -> Line:
    return Line(*(row[field.name] for field in fields(Line)))


def _sums(rows: Sequence[Any]) -> Sums:
    found = {row[0]: Sum(*row[1:5]) for row in rows}
    return {name: found.get(name, Sum()) for name in LISTS}

"""The lists: for each fal request what fal billed beside what we charged, told from what is kept of both."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.db import Database, Plain
from app.money import ZERO
from app.reports.fal_bill.runs import Coverage, last_run, read_coverage
from app.reports.spend import LONGEST_SECONDS, ReportTooLarge

LISTS: Final = ("matched", "differs", "ours_only", "fal_only", "pending")
GRACE: Final = timedelta(days=2)
"""For so long after a charge it says nothing that fal has not billed it: its events come late (FAL.md 6)."""

BY_BILL: Final = "bill "
"""What the source of an adjustment begins with that comes from fal's bill; `bill <fal request> <number>`."""

_MOST_USD: Final = 1_000_000  # of one request, as by hand
_TIMEOUT: Final = LONGEST_SECONDS + 5
_PAGE: Final = 1_000
_SESSION: Final = "; ".join(
    (
        "SET TRANSACTION READ ONLY",
        f"SET LOCAL statement_timeout = '{LONGEST_SECONDS}s'",
        "SET LOCAL work_mem = '64MB'",
        "SET LOCAL random_page_cost = 1.1",
        "SET LOCAL plan_cache_mode = force_custom_plan",
    )
)

_OF_A_PERIOD: Final = """
    SELECT e.job_id FROM entries e
    WHERE e.booked_at >= $4 AND e.booked_at < $5 AND e.kind IN ('settle', 'overage', 'adjustment')
    UNION
    SELECT a.job_id FROM fal_bills f JOIN attempts a ON a.fal_request_id = f.fal_request_id
    WHERE f.billed_at >= $4 AND f.billed_at < $5
"""
_BILLED_THEN: Final = "SELECT fal_request_id FROM fal_bills WHERE billed_at >= $4 AND billed_at < $5"
_OF_A_JOB: Final = "SELECT $4::uuid AS job_id"
_NOTHING_ELSE: Final = "SELECT NULL::text"


def _sql_lines(jobs: str, requests: str) -> str:
    """The lines of these jobs and of these fal requests, as the columns of Line; $1 to $3 are coverage and GRACE."""
    return f"""
WITH looked AS MATERIALIZED ({jobs}),
booked AS (
    SELECT e.job_id,
           coalesce(CASE e.kind WHEN 'overage' THEN e.source
                                WHEN 'adjustment' THEN substring(e.source FROM '^{BY_BILL}([^ ]+) [0-9]+$') END,
                    j.fal_request_id) AS fal_request_id,
           sum(e.amount_usd) AS usd, sum(e.seconds) AS seconds, max(e.booked_at) AS charged_at,
           count(*) FILTER (WHERE e.kind = 'adjustment' AND e.source LIKE '{BY_BILL}%') AS corrections,
           bool_or(e.kind = 'adjustment' AND e.source NOT LIKE '{BY_BILL}%') AS is_by_hand
    FROM looked l JOIN jobs j ON j.id = l.job_id JOIN entries e ON e.job_id = l.job_id
    WHERE e.kind IN ('settle', 'overage', 'adjustment') GROUP BY 1, 2
), sent AS (
    SELECT a.job_id, a.fal_request_id, a.fal_key_id, a.stray_check_at IS NOT NULL AS is_followed
    FROM looked l JOIN attempts a ON a.job_id = l.job_id WHERE a.fal_request_id IS NOT NULL
), ours AS MATERIALIZED (
    SELECT coalesce(s.job_id, b.job_id) AS job_id, coalesce(s.fal_request_id, b.fal_request_id) AS fal_request_id,
           s.fal_key_id, coalesce(s.is_followed, false) AS is_followed, coalesce(b.usd, 0) AS ours_usd,
           coalesce(b.seconds, 0) AS ours_seconds, b.charged_at, coalesce(b.corrections, 0) AS corrections,
           coalesce(b.is_by_hand, false) AS is_by_hand
    FROM sent s FULL JOIN booked b ON b.job_id = s.job_id AND b.fal_request_id = s.fal_request_id
), billed AS (
    SELECT f.fal_request_id, sum(f.usd) AS usd, sum(f.units) AS units, min(f.billed_at) AS billed_at,
           min(f.endpoint) AS endpoint, string_agg(DISTINCT f.paid_with, ', ') AS paid_with
    FROM fal_bills f
    JOIN (SELECT fal_request_id FROM ours UNION {requests}) w ON w.fal_request_id = f.fal_request_id GROUP BY 1
), told AS (
    SELECT o.job_id, coalesce(o.fal_request_id, f.fal_request_id) AS fal_request_id, j.status AS job_status,
           coalesce(j.endpoint, f.endpoint) AS endpoint, j.model, j.team_id, j.user_id,
           coalesce(o.ours_usd, 0) AS ours_usd, coalesce(f.usd, 0) AS fal_usd, o.charged_at, f.billed_at,
           f.paid_with, coalesce(o.is_by_hand, false) AS is_by_hand, o.ours_seconds, j.seconds AS job_seconds,
           f.units AS fal_units, o.corrections, o.is_followed, j.finished_at,
           bool_or(f.usd IS NOT NULL) OVER (PARTITION BY o.fal_key_id) AS is_key_billed
    FROM ours o FULL JOIN billed f ON f.fal_request_id = o.fal_request_id LEFT JOIN jobs j ON j.id = o.job_id
), lines AS MATERIALIZED (
    SELECT CASE WHEN job_id IS NULL THEN 'fal_only'
                WHEN billed_at IS NOT NULL AND fal_usd = ours_usd THEN 'matched'
                WHEN finished_at IS NULL OR is_followed THEN 'pending'
                WHEN billed_at IS NOT NULL THEN 'differs'
                WHEN ($2::timestamptz[])[width_bucket(charged_at, $1::timestamptz[])] >= charged_at + $3::interval
                THEN 'ours_only' ELSE 'pending' END AS list,
           told.*, coalesce(billed_at, charged_at) AS at, coalesce(fal_request_id, job_id::text) AS key
    FROM told WHERE billed_at IS NOT NULL OR ours_usd <> 0
)
"""  # noqa: S608  ours


_COLUMNS: Final = (
    "list, fal_request_id, job_id, job_status, endpoint, model, team_id, user_id, ours_usd, fal_usd, charged_at,"
    " billed_at, paid_with, is_by_hand, at, key"
)
_LINES: Final = _sql_lines(_OF_A_PERIOD, _BILLED_THEN)
_ORDER: Final = "ORDER BY at DESC, key DESC"
_SUMS: Final = """
SELECT list, count(*) AS requests, sum(ours_usd) AS ours_usd, sum(fal_usd) AS fal_usd,
       sum(abs(fal_usd - ours_usd)) AS apart_usd FROM lines GROUP BY list
"""
_PAGE_WITH_SUMS: Final = f"""{_LINES}
SELECT s.*, p.* FROM (SELECT array_agg(t) AS sums FROM ({_SUMS}) t) s
LEFT JOIN LATERAL (
    SELECT {_COLUMNS} FROM lines
    WHERE ($6::text IS NULL OR list = $6) AND ($7::timestamptz IS NULL OR (at, key) < ($7, $8)) {_ORDER} LIMIT $9
) p ON true
{_ORDER}
"""  # noqa: S608  ours
_ALL: Final = f"{_LINES} SELECT {_COLUMNS} FROM lines WHERE $6::text IS NULL OR list = $6 {_ORDER}"  # noqa: S608  ours
_FIRST_WITH_SUMS: Final = f"""{_LINES}
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
_ADJUSTABLE: Final = f"""{_LINES}
SELECT job_id, array_agg(fal_request_id) AS fal_request_ids FROM lines
WHERE {_IS_SURE} AND fal_request_id IS NOT NULL AND (list = 'differs' OR is_key_billed)
GROUP BY job_id ORDER BY job_id
"""  # noqa: S608  ours
_OF_JOB: Final = f"""{_sql_lines(_OF_A_JOB, _NOTHING_ELSE)}
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
        found = await plain.fetch(_PAGE_WITH_SUMS, *known, since, until, name, *place, limit + 1, timeout=_TIMEOUT)
        run = await last_run(plain)
    sums = _sums(found[0]["sums"] or [])
    lines = [_line(row) for row in found if row["key"] is not None]
    return Lines(lines[:limit], len(lines) > limit, sums, run)


async def read_first_lines(db: Database, since: datetime, until: datetime, *, first: int) -> tuple[Sums, list[Line]]:
    """The sums of the requests billed or charged in [since, until), and the newest of each list but `matched`.

    Raises ReportTooLarge.
    """
    async with _reading(db) as (plain, known):
        found = await plain.fetch(_FIRST_WITH_SUMS, *known, since, until, first, timeout=_TIMEOUT)
    return _sums(found[0]["sums"] or []), [_line(row) for row in found if row["key"] is not None]


async def read_all_lines(
    db: Database, since: datetime, until: datetime, *, name: str | None = None
) -> AsyncGenerator[Sequence[Line]]:
    """All of them, some at a time, within one transaction: whoever takes them must not wait for anybody."""
    async with _reading(db) as (plain, known):
        cursor = await plain.cursor(_ALL, *known, since, until, name, timeout=_TIMEOUT)
        while rows := await cursor.fetch(_PAGE, timeout=_TIMEOUT):
            yield [_line(row) for row in rows]


async def read_adjustable(db: Database, since: datetime, until: datetime) -> Adjustable:
    """The jobs whose charge is not what fal billed. Raises ReportTooLarge."""
    async with _reading(db) as (plain, known):
        rows = await plain.fetch(_ADJUSTABLE, *known, since, until, timeout=_TIMEOUT)
    return Adjustable({row["job_id"]: row["fal_request_ids"] for row in rows}, known)


async def read_corrections(plain: Plain, adjustable: Adjustable, job_id: UUID) -> list[Correction]:
    """As things stand in this transaction; what was one and is none any more is left out."""
    fal_request_ids = adjustable.fal_request_ids[job_id]
    rows = await plain.fetch(_OF_JOB, *adjustable.known, job_id, fal_request_ids, timeout=_TIMEOUT)
    return [Correction(*row.values()) for row in rows]


@asynccontextmanager
async def _reading(db: Database) -> AsyncIterator[tuple[Plain, tuple[Any, ...]]]:
    try:
        async with db.begin_plain(first=_SESSION) as plain:
            yield plain, _known(await read_coverage(plain))
    except asyncpg.QueryCanceledError:
        raise ReportTooLarge(f"It takes longer than {LONGEST_SECONDS} s: narrow it.") from None


def _known(coverage: Coverage) -> tuple[Any, ...]:
    return coverage.bounds, coverage.read_at, GRACE


def _line(row: Any) -> Line:
    return Line(*(row[field.name] for field in fields(Line)))


def _sums(rows: Sequence[Any]) -> Sums:
    found = {row[0]: Sum(*row[1:5]) for row in rows}
    return {name: found.get(name, Sum()) for name in LISTS}

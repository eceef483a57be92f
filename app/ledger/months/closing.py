"""Closing months: their totals are written down, and from then on everything is booked after their end.

The books are closed up to a month's end, as an accountant's lock date: with a month every earlier one that is still
open is closed too. Nothing could be booked in those any more in any case, so to ask for each of them first would guard
nothing. Each has its own row, and the answer names them all.

Whoever closes holds the quotas' lock exclusively, so that no entry is under way; every other entry is booked, under
that lock shared, at its moment or at `books.open_since`, whichever is later (`entries`). A replica whose clock is slow,
or who read it before midnight, therefore books into the open month, and a closed month's totals stay as they are.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import select

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.accounts.listing import newest
from app.db import Plain, Tx, plain_of
from app.http import Page
from app.ids import new_id
from app.ledger.locks import lock_quotas
from app.ledger.months.shapes import Closing, Month, MonthQuery, Reopening, show_month
from app.ledger.months.sums import SQL_DISAGREEING, SQL_GIVEN, sql_summed
from app.ledger.tables import closed_months
from app.ledger.windows import first_instant, local_date, next_month
from app.money import ZERO
from app.problems import Problem

HELD_NAMED: Final = 100
_COUNTING_SECONDS: Final = 3600  # every entry of many months may have to be summed


class MonthClosed(Problem):
    """This month is closed: its totals do not change any more.

    What comes late is booked in the open month, with the job's own date beside it: leave the month out. Where it has
    to be in this one, an admin reopens it (`POST /v1/months/{month}/reopen`, with a note).
    """

    status = 409


class MonthNotOver(Problem):
    """This month has not ended yet, so it cannot be closed.

    `ends_at` says when it can.
    """

    status = 409


class MonthEmpty(Problem):
    """Nothing was booked in this month or before it, so there is nothing to close.

    Look at the year that you asked for.
    """

    status = 409


class SumsDisagree(Problem):
    """The sums that are kept of a month do not agree with its entries, so it was not closed.

    This happens when an older release was running beside this one. Run `falgate audit --rebuild`, which sums the
    entries anew, and close the month then. `months` names those that disagree.
    """

    status = 409


class MonthNotClosed(Problem):
    """This month is not closed, so there is nothing to reopen.

    `GET /v1/months` lists those that are.
    """

    status = 409


class LaterMonthClosed(Problem):
    """Only the newest closed month can be reopened: the books are closed up to one moment.

    `newest` names that month. Reopen it first; close it again when this one is.
    """

    status = 409


_NEWEST: Final = "SELECT max(month) FROM closed_months WHERE reopened_at IS NULL"
_FIRST_DAY: Final = "SELECT min(day) FROM spend_daily"
_FIRST_HOLD: Final = """
SELECT min(e.booked_at) FROM jobs j JOIN entries e ON e.id = j.id WHERE j.finished_at IS NULL
"""
_COLUMNS: Final = (
    "month, starts_at, ends_at, charged_usd, seconds, jobs, succeeded, failed, canceled, held_usd, held_jobs"
)
_CLOSE: Final = f"""
INSERT INTO closed_months (id, {_COLUMNS}, closed_at, closed_by)
SELECT n.id, {", ".join("s." + name for name in _COLUMNS.split(", "))}, $5, $6
FROM ({sql_summed(SQL_GIVEN)}) s JOIN unnest($4::uuid[], $1::date[]) AS n (id, month) ON n.month = s.month
RETURNING *
"""  # noqa: S608  ours
_OPEN_SINCE: Final = """
UPDATE books SET open_since = coalesce((SELECT max(ends_at) FROM closed_months WHERE reopened_at IS NULL), '-infinity')
"""
_HELD: Final = f"""
SELECT j.id, count(*) OVER () AS jobs, sum(e.amount_usd) OVER () AS usd
FROM jobs j JOIN entries e ON e.id = j.id
WHERE j.finished_at IS NULL AND e.booked_at < $1 ORDER BY e.booked_at, j.id LIMIT {HELD_NAMED}
"""  # noqa: S608  ours
_REOPEN: Final = """
UPDATE closed_months SET reopened_at = $2, reopened_by = $3, reopen_note = $4
WHERE month = $1 AND reopened_at IS NULL RETURNING *
"""


async def close_month(tx: Tx, month: date, *, actor: Actor, now: datetime, zone: ZoneInfo) -> Closing:
    """Close a month that has ended, and every earlier one that is open, from the first that has entries.

    Raises MonthNotOver, MonthClosed, MonthEmpty, SumsDisagree.
    """
    _, ends_at = bounds_of(month, zone)
    if ends_at > now:
        raise MonthNotOver(f"{show_month(month)} has not ended yet; close it once it has.", ends_at=ends_at)
    plain = await plain_of(tx)
    await plain.execute("SET LOCAL statement_timeout = 0")
    await _require_agreement(plain, await _open_months(plain, month, zone), zone)
    await lock_quotas(tx)
    months = await _open_months(plain, month, zone)
    ids = sorted(new_id(now) for _ in months)
    rows = await plain.fetch(_CLOSE, *_columns(months, zone), ids, now, actor.name)
    await plain.execute(_OPEN_SINCE)
    closed = sorted((Month.model_validate(dict(row)) for row in rows), key=lambda one: one.month)
    for one in closed:
        await audit_log.write(
            tx,
            actor=actor,
            action="month.closed",
            object_id=show_month(one.month),
            before=None,
            after=one.model_dump(mode="json", exclude={"reopened_at", "reopened_by", "reopen_note"}),
            now=now,
        )
    held = await plain.fetch(_HELD, ends_at)
    return Closing(
        closed=closed,
        held_usd=held[0]["usd"] if held else ZERO,
        held_jobs=held[0]["jobs"] if held else 0,
        held_job_ids=[row["id"] for row in held],
    )


async def reopen_month(tx: Tx, month: date, reopening: Reopening, *, actor: Actor, now: datetime) -> Month:
    """Open the newest closed month again; what was late for it stays where it was booked.

    Raises MonthNotClosed, LaterMonthClosed.
    """
    await lock_quotas(tx)
    plain = await plain_of(tx)
    latest = await plain.fetchval(_NEWEST)
    if latest is not None and latest > month:
        raise LaterMonthClosed(
            f"{show_month(latest)} is closed too, and is the one to reopen first.", newest=show_month(latest)
        )
    row = await plain.fetchrow(_REOPEN, month, now, actor.name, reopening.note)
    if row is None:
        raise MonthNotClosed(f"{show_month(month)} is open: there is nothing to reopen.")
    await plain.execute(_OPEN_SINCE)
    reopened = Month.model_validate(dict(row))
    await audit_log.write(
        tx,
        actor=actor,
        action="month.reopened",
        object_id=show_month(month),
        before=reopened.model_dump(mode="json", exclude={"reopened_at", "reopened_by", "reopen_note"}),
        after={"note": reopening.note},
        now=now,
    )
    return reopened


async def list_months(tx: Tx, query: MonthQuery) -> Page[Month]:
    """Every closing, newest first; those that were reopened too."""
    rows, next_cursor = await newest(tx, select(closed_months), closed_months.c.id, query, prefix="closing")
    return Page(data=[Month.model_validate(row) for row in rows], next_cursor=next_cursor)


async def require_open(plain: Plain, month: date, *, zone: ZoneInfo) -> None:
    """Raise MonthClosed unless something can still be booked in this month. The quotas' lock must be held, shared."""
    _, ends_at = bounds_of(month, zone)
    if await plain.fetchval("SELECT open_since >= $1 FROM books", ends_at):
        raise MonthClosed(
            f"{show_month(month)} is closed: leave `month` out to book it in the open month, or have an admin reopen "
            "that month first.",
            month=show_month(month),
        )


def bounds_of(month: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From when until when a month is, in `zone`: `[starts_at, ends_at)`."""
    return first_instant(month, zone), first_instant(next_month(month), zone)


async def _open_months(plain: Plain, month: date, zone: ZoneInfo) -> list[date]:
    """Those that closing `month` closes, the oldest first. Raises MonthClosed, MonthEmpty."""
    latest: date | None = await plain.fetchval(_NEWEST)
    if latest is not None:
        if month <= latest:
            raise MonthClosed(f"The books are closed up to the end of {show_month(latest)}.", month=show_month(latest))
        return _months_through(next_month(latest), month)
    first = await _first_month(plain, zone)
    if first is None or month < first:
        raise MonthEmpty(f"Nothing was booked in {show_month(month)} or before it: there is nothing to close.")
    return _months_through(first, month)


async def _first_month(plain: Plain, zone: ZoneInfo) -> date | None:
    """The first in which something was booked: what has ended is summed, what has not still has its hold."""
    day: date | None = await plain.fetchval(_FIRST_DAY)
    held_at: datetime | None = await plain.fetchval(_FIRST_HOLD)
    found = [day] if day is not None else []
    if held_at is not None:
        found.append(local_date(held_at, zone))
    return min(found).replace(day=1) if found else None


async def _require_agreement(plain: Plain, months: Sequence[date], zone: ZoneInfo) -> None:
    rows = await plain.fetch(SQL_DISAGREEING, *_columns(months, zone), timeout=_COUNTING_SECONDS)
    if rows:
        named = [show_month(row["month"]) for row in rows]
        raise SumsDisagree(
            f"The sums of {', '.join(named)} do not agree with the entries: run `falgate audit --rebuild`, then close.",
            months=named,
        )


def _columns(months: Sequence[date], zone: ZoneInfo) -> tuple[list[date], list[datetime], list[datetime]]:
    """The arrays of SQL_GIVEN."""
    bounds = [bounds_of(month, zone) for month in months]
    return list(months), [starts_at for starts_at, _ in bounds], [ends_at for _, ends_at in bounds]


def _months_through(first: date, last: date) -> list[date]:
    months = [first]
    while months[-1] < last:
        months.append(next_month(months[-1]))
    return months

"""`falgate close`: the books of a month are closed, opened again, or listed."""

import asyncio
from datetime import date
from typing import Final

import click

from app.accounts.callers import COMMAND_LINE
from app.accounts.fields import is_unicode
from app.cli.database import embedded_option, settings_with_database
from app.cli.installation import open_installation
from app.cli.refusals import Refusal
from app.cli.terminal import printable
from app.ids import show
from app.ledger.months.closing import MonthClosed, close_month, list_months, reopen_month
from app.ledger.months.shapes import Closing, Month, MonthQuery, Reopening, parse_month, show_month
from app.money import decimal_text
from app.problems import Problem
from app.settings import Settings
from app.wiring import utc_now

_SHOWN: Final = 10
_LONGEST_NOTE: Final = 1000


@click.command
@click.argument("month", required=False)
@click.option("--reopen", is_flag=True, help="Open the newest closed month again; needs a --note.")
@click.option("--note", help="Why it is opened again.")
@click.option("--list", "lists", is_flag=True, help="Show what was closed, newest first, and by whom.")
@embedded_option
def command(*, month: str | None, reopen: bool, note: str | None, lists: bool, embedded: bool) -> None:
    """Close a MONTH that has ended, like 2026-10, and every one before it: its totals never change again.

    What comes later is booked in the open month. Closing what is closed already changes nothing.
    """
    if lists + (month is not None) != 1:
        raise Refusal("Give one month, like 2026-10, or --list.")
    if (note is not None) != reopen or (lists and reopen):
        raise Refusal("--reopen takes a month and a --note that says why; nothing else takes a note.")
    if note is not None and not (note.strip() and len(note) <= _LONGEST_NOTE and is_unicode(note)):
        raise Refusal(f"--note has 1 to {_LONGEST_NOTE} characters, in UTF-8.")
    try:
        asked = parse_month(month) if month is not None else None
    except ValueError as fault:
        raise Refusal(f"{month!r}: {fault}.") from None
    with settings_with_database(embedded=embedded) as given:
        for line in asyncio.run(_work(given.settings, asked, note=note)):
            click.echo(line)


async def _work(settings: Settings, month: date | None, *, note: str | None) -> list[str]:
    async with open_installation(settings) as db:
        now = utc_now()
        try:
            if month is None:
                async with db.reading() as tx:
                    return _listed((await list_months(tx, MonthQuery(limit=100))).data)
            async with db.begin() as tx:
                if note is not None:
                    await reopen_month(tx, month, Reopening(note=note), actor=COMMAND_LINE, now=now)
                    return [f"{show_month(month)} is open again"]
                return _closed(await close_month(tx, month, actor=COMMAND_LINE, now=now, zone=settings.zone))
        except MonthClosed as problem:
            return [f"Nothing to do. {problem.detail}"]
        except Problem as problem:
            raise Refusal(problem.detail) from None


def _closed(closing: Closing) -> list[str]:
    lines = [f"closed {_totals(month)}" for month in closing.closed]
    if not closing.held_jobs:
        return [*lines, "nothing is still held from it"]
    named = [f"  {show('job', job_id)}" for job_id in closing.held_job_ids[:_SHOWN]]
    more = closing.held_jobs - len(named)
    held = f"{decimal_text(closing.held_usd)} USD of {_jobs(closing.held_jobs)}"
    return [
        *lines,
        f"still held: {held}, to be booked in the open month",
        *named,
        *([f"  and {more} more"] if more else []),
    ]


def _listed(months: list[Month]) -> list[str]:
    lines = []
    for month in months:
        lines.append(f"{_totals(month)}; closed {month.closed_at:%Y-%m-%d} by {month.closed_by}")
        if month.reopened_at is not None:
            lines.append(
                f"  reopened {month.reopened_at:%Y-%m-%d} by {month.reopened_by}: {printable(month.reopen_note or '')}"
            )
    return lines or ["no month is closed"]


def _totals(month: Month) -> str:
    return (
        f"{show_month(month.month)}: {decimal_text(month.charged_usd)} USD, {month.seconds.normalize():f} s, "
        f"{_jobs(month.jobs)} ({month.succeeded} succeeded, {month.failed} failed, {month.canceled} canceled)"
    )


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"

"""`falgate reconcile`: fal's bill beside what we charged, and, when asked, what differs adjusted to it."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, cast

import click

from app.accounts.callers import COMMAND_LINE
from app.cli.database import embedded_option, settings_with_database
from app.cli.installation import open_installation
from app.cli.refusals import Refusal
from app.cli.terminal import aligned, printable
from app.db import Database
from app.fal import Platform, Trouble
from app.ids import show
from app.money import decimal_text
from app.problems import Problem
from app.reports.fal_bill.lists import LISTS, Line, read_all_lines
from app.reports.fal_bill.run import Reconciled, reconcile
from app.reports.fal_bill.runs import USUAL_PERIOD, begin_run
from app.reports.fal_bill.written import write_csv
from app.reports.period import Faults, read_period
from app.settings import Settings, SettingsError
from app.wiring import utc_now

_WORDS: Final = {
    "matched": "fal billed what we charged",
    "differs": "fal billed something else",
    "ours_only": "we charged, fal has not billed it",
    "fal_only": "not a job of ours: the FAL_KEY is used elsewhere",
    "pending": "too early to say",
}

_MAY_ADJUST: Final = "`falgate reconcile --adjust` books what differs or was not billed, once for each job."
_LEFT_ALONE: Final = "What still differs was left alone: look at it, or give a --since before the jobs ended."


@dataclass(frozen=True, slots=True)
class _Told:
    """What there is to print."""

    since: datetime
    until: datetime
    done: Reconciled


@click.command
@click.option("--since", help="A date, such as 2026-10-01, or a moment; else 35 days ago.")
@click.option("--until", help="A date or a moment that is no longer part of it; else now.")
@click.option("--adjust", is_flag=True, help="Book an adjustment for every job that fal billed otherwise.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write every line there.")
@embedded_option
@click.pass_context
def command(
    context: click.Context, *, since: str | None, until: str | None, adjust: bool, csv_path: Path | None, embedded: bool
) -> None:
    """Compare fal's bill with what was charged; exit 1 where they differ."""
    with settings_with_database(embedded=embedded) as given:
        told = asyncio.run(_work(given.settings, since, until, adjusts=adjust, csv_path=csv_path))
    click.echo(_written(told, adjusts=adjust), nl=False)
    if not told.done.agrees:
        context.exit(1)


async def _work(
    settings: Settings, since: str | None, until: str | None, *, adjusts: bool, csv_path: Path | None
) -> _Told:
    if settings.is_sandbox:
        raise SettingsError(
            "The bill of FAL_KEY=sandbox ends with it: run `falgate sandbox` and name it in FAL_API_URL."
        )
    if settings.fal_admin_key is None:
        raise SettingsError("FAL_ADMIN_KEY is not set: fal shows its bill to a key of scope ADMIN only.")
    start, end = _period(settings, since, until)
    platform = Platform(fal_key=settings.fal_key, admin_key=settings.fal_admin_key, api_url=settings.fal_api_url)
    try:
        async with open_installation(settings) as db:
            return await _reconcile(db, platform, settings, start, end, adjusts=adjusts, csv_path=csv_path)
    except Problem as problem:
        raise Refusal(problem.detail) from None
    finally:
        await platform.aclose()


def _period(settings: Settings, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    now, faults = utc_now(), Faults()
    start = since or (now - USUAL_PERIOD).isoformat()
    period = read_period(start, until, now=now, zone=settings.zone, faults=faults)
    end = min(period.until or now, now)
    if not faults and period.since >= end:
        faults.append({"parameter": "since", "detail": "must lie before now"})
    if faults:
        raise Refusal("; ".join(f"--{fault['parameter']}: {fault['detail']}" for fault in faults) + ".")
    return period.since, end


async def _reconcile(
    db: Database,
    platform: Platform,
    settings: Settings,
    since: datetime,
    until: datetime,
    *,
    adjusts: bool,
    csv_path: Path | None,
) -> _Told:
    run_id = await begin_run(db, since, until, by=COMMAND_LINE.name, now=utc_now())
    actor = COMMAND_LINE if adjusts else None
    done = await reconcile(db, platform, run_id, since, until, clock=utc_now, zone=settings.zone, adjusts=actor)
    if isinstance(done, Trouble):
        raise Refusal(f"fal's bill cannot be read just now ({done.reason}){_advice(done)} Nothing was changed.")
    if csv_path is not None:
        with csv_path.open("wb") as file:
            await write_csv(read_all_lines(db, since, until), cast("BinaryIO", file))
    return _Told(since, until, done)


def _advice(trouble: Trouble) -> str:
    return ": is the scope of FAL_ADMIN_KEY ADMIN?" if trouble.code in {401, 403} else "."


def _written(told: _Told, *, adjusts: bool) -> str:
    kept, adjusted = told.done.kept, told.done.adjusted
    events = f"{kept.read} events, {kept.added} new, {kept.withdrawn} withdrawn"
    lines = [f"fal's bill from {_moment(told.since)} to {_moment(told.until)}: {events}"]
    if adjusts:
        were = "1 adjustment was" if adjusted.entries == 1 else f"{adjusted.entries} adjustments were"
        lines.append(f"{were} booked: {decimal_text(adjusted.usd)} USD")
    lines += ["", *aligned(_sums(told.done), right={1, 2, 3})]
    for name in LISTS:
        found = [line for line in told.done.first if line.list == name]
        if not found:
            continue
        lines += ["", f"{name}: {_WORDS[name]}", *aligned([_cells(line) for line in found], right={2, 3}, indent="  ")]
        more = told.done.sums[name].requests - len(found)
        lines += [f"  … and {more} more (--csv FILE has them all)"] if more else []
    if any(told.done.sums[name].requests for name in ("differs", "ours_only")):
        lines += ["", _LEFT_ALONE if adjusts else _MAY_ADJUST]
    return "\n".join([*lines, ""])


def _sums(done: Reconciled) -> list[list[str]]:
    rows = [["", "requests", "ours USD", "fal USD", ""]]
    for name in LISTS:
        each = done.sums[name]
        rows.append([name, str(each.requests), decimal_text(each.ours_usd), decimal_text(each.fal_usd), _WORDS[name]])
    return rows


def _cells(line: Line) -> list[str]:
    ours, fal = decimal_text(line.ours_usd), decimal_text(line.fal_usd)
    about = line.paid_with if line.job_id is None else f"{show('job', line.job_id)} {line.job_status}"
    by_hand = " (adjusted by hand: left alone)" if line.is_by_hand else ""
    return [_moment(line.at), printable(line.fal_request_id or "–"), ours, fal, printable(about or "–") + by_hand]


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

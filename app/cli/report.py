"""`falgate report`: what was spent, or what one job cost and why, in the terminal.

The same as `GET /v1/reports/spend` and `GET /v1/jobs/{id}/entries` tell.
"""

import asyncio
from collections.abc import Sequence

import click

from app.accounts.callers import COMMAND_LINE
from app.cli.database import embedded_option, settings_with_database
from app.cli.explained import print_explained
from app.cli.installation import open_installation
from app.cli.refusals import Refusal
from app.cli.terminal import aligned, printable, widths_of
from app.ids import parse
from app.problems import InvalidInput, NotFound, Problem
from app.reports.csv import total_cells
from app.reports.explanation.explain import explain_job
from app.reports.spend.report import FIGURES, Asked, Line, Total, read_asked, read_spend
from app.reports.spend.written import CsvReport, columns_of, figures_of
from app.settings import Settings
from app.wiring import utc_now

_MOST_ENTRIES = 1_000
_OPTIONS = {"since": "--since", "until": "--until", "group_by": "--by"}


@click.command
@click.option("--since", help="A date, such as 2026-10-01, or a moment; else the first of this month.")
@click.option("--until", help="A date or a moment that is no longer part of it; else there is no end.")
@click.option("--by", help="day, week, month, team, user, key, end_user, model, tag.NAME: any, with commas between.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--job", help="The id of one job: print what it cost, and why.")
@embedded_option
def command(
    *, since: str | None, until: str | None, by: str | None, as_csv: bool, job: str | None, embedded: bool
) -> None:
    """Print what was spent, on the days of TIMEZONE; with --job, what that job cost, and why."""
    if job is not None and (as_csv or [since, until, by] != [None] * 3):
        raise Refusal("--job prints one job, whenever it was: leave out --since, --until, --by and --csv.")
    query = [
        (name, value) for name, value in (("since", since), ("until", until), ("group_by", by)) if value is not None
    ]
    with settings_with_database(embedded=embedded) as given:
        work = _spend(given.settings, query, as_csv=as_csv) if job is None else _explain(given.settings, job)
        text = asyncio.run(work)
    click.echo(text, nl=False)


async def _spend(settings: Settings, query: list[tuple[str, str]], *, as_csv: bool) -> str:
    """The report as it is printed. Raises Refusal."""
    async with open_installation(settings) as db:
        try:
            asked = read_asked(query, now=utc_now(), zone=settings.zone, faults=[])
            report = CsvReport(asked) if as_csv else _Table(asked)
            total = await read_spend(db, asked, actor=COMMAND_LINE, take=report.take)
        except Problem as problem:
            raise Refusal(_in_words(problem)) from None
        return report.written(total).decode()


async def _explain(settings: Settings, job: str) -> str:
    """One job's explanation as it is printed. Raises Refusal."""
    job_id = parse("job", job)
    if job_id is None:
        raise Refusal("--job: give an id, job_ and 32 hex digits.")
    async with open_installation(settings) as db, db.plain() as plain:
        try:
            return print_explained(await explain_job(plain, job_id, caller=None, limit=_MOST_ENTRIES))
        except NotFound:
            raise Refusal(f"There is no job {job} in this database.") from None


def _in_words(problem: Problem) -> str:
    if not isinstance(problem, InvalidInput):
        return problem.detail
    return "; ".join(f"{_OPTIONS[fault['parameter']]}: {fault['detail']}" for fault in problem.faults) + "."


class _Table:
    """Lines that become an aligned table, the total below them."""

    def __init__(self, asked: Asked) -> None:
        names = columns_of(asked.groups)
        self._shown = [number for number, name in enumerate(names) if name not in _IDS]
        self._header = [names[number] for number in self._shown]
        self._rows: list[list[str]] = []

    def take(self, lines: Sequence[Line]) -> None:
        self._rows += [[_cell(line[number]) for number in self._shown] for line in lines]

    def written(self, total: Total) -> bytes:
        of_groups = len(self._header) - len(FIGURES)
        last = [*total_cells(of_groups), *map(str, figures_of(total))]
        rows = [self._header, *(self._rows if of_groups else []), last]
        header, *lines, total_line = aligned(rows, right=range(of_groups, len(self._header)))
        rule = "  ".join("-" * width for width in widths_of(rows))
        return "\n".join([header, rule, *lines, *([rule] if lines else []), total_line, ""]).encode()


_IDS = {"team_id", "user_id", "key_id"}
"""Left out of the table: names are enough there, and CSV has them."""


def _cell(value: object) -> str:
    return "–" if value is None else printable(str(value))

"""The statement of a report of spend: what each part of its period adds, summed by group."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.ids import sql_show
from app.ledger.entries import SQL_CHARGES, SQL_ENDED
from app.ledger.spend import SUMS
from app.money import sql_decimal_text
from app.reports.calendar import days_of
from app.reports.period import Period
from app.reports.reach import seen_by
from app.reports.spend.groups import PEOPLE, PERIODS, TAG, Groups
from app.reports.spend.parts import Days, only_entries, split
from app.reports.values import Values

_FIGURES: Final = ("held_usd", *SUMS)

_OF_SUMS: Final = {name: f"sum(e.{name})" for name in SUMS}
_CHARGED: Final = f"FILTER (WHERE {SQL_CHARGES})"
_OF_ENTRIES: Final = {
    "charged_usd": f"coalesce(sum(e.amount_usd) {_CHARGED}, 0)",
    "seconds": f"coalesce(sum(e.seconds) {_CHARGED}, 0)",
    "jobs": "count(*) FILTER (WHERE e.kind = 'hold')",
    **{name: f"count(*) FILTER (WHERE r.status = '{name}')" for name in ("succeeded", "failed", "canceled")},
}
_ENTRIES: Final = f"entries e {SQL_ENDED}"
_UNFINISHED: Final = "jobs j JOIN entries e ON e.id = j.id AND e.kind = 'hold'"


def statement(
    period: Period, groups: Groups, *, zone: ZoneInfo, now: datetime, actor: Actor, most: int
) -> tuple[str, list[Any]]:
    """SQL and its values: a row a line, the members of `groups` and then the figures, money and seconds as text.

    At most one line more than `most`.
    """
    made = _Statement(groups, actor)
    if groups.periods:
        made.tell_days(period, zone, now=now)
    return made.written(period, zone, most=most), made.values


class _Statement:
    """`e` is what adds up: an entry, or a row of the sums by day or month."""

    def __init__(self, groups: Groups, actor: Actor) -> None:
        self.values = Values()
        self._groups = groups
        seen = seen_by(actor)
        self._seen = [] if seen is None else [f"e.{seen[0]} = {self.values.put(seen[1])}"]
        self._day = ""
        self._tags = {name: f"e.tags ->> {self.values.put(name.removeprefix(TAG))}::text" for name in groups.tags}
        self._columns = {name: _column(name, number) for number, name in enumerate(groups.names)}

    def tell_days(self, period: Period, zone: ZoneInfo, *, now: datetime) -> None:
        """How an entry's day is found: Postgres' own days overlap when clocks change."""
        days, starts = days_of(period, zone, now=now)
        bucket = f"width_bucket(e.booked_at, {self.values.put(starts)}::timestamptz[])"
        self._day = f"({self.values.put(days)}::date[])[{bucket}]"

    def written(self, period: Period, zone: ZoneInfo, *, most: int) -> str:
        """All of it."""
        shown = [*self._shown(), *_shown_figures()]
        return f"""
WITH lines AS (
    SELECT {", ".join([*self._columns.values(), *(f"sum({name}) AS {name}" for name in _FIGURES)])}
    FROM ({" UNION ALL ".join(self._facts(period, zone))}) f {self._grouped()}
)
SELECT {", ".join(shown)} FROM lines l {" ".join(self._names())}
ORDER BY {", ".join(self._order())} LIMIT {most + 1}
"""  # noqa: S608  ours

    def _facts(self, period: Period, zone: ZoneInfo) -> list[str]:
        by_month = not {"day", "week"} & {*self._groups.names}
        parts = split(period, zone, by_month=by_month) if self._groups.are_summed else only_entries(period)
        facts = [] if parts.months is None else [self._of_sums("spend_monthly", "month", parts.months)]
        facts += [self._of_sums("spend_daily", "day", days) for days in parts.days]
        facts += [self._of_entries(_ENTRIES, _OF_ENTRIES, self._within(edge)) for edge in parts.edges]
        # what is under way is held; and its acceptance, which edges count themselves, is not yet in the sums
        unfinished = {"held_usd": "sum(j.held_usd)"}
        if parts.summed is not None:
            unfinished["jobs"] = f"count(*) FILTER (WHERE {' AND '.join(self._within(parts.summed))})"
        return [*facts, self._of_entries(_UNFINISHED, unfinished, ["j.finished_at IS NULL", *self._within(period)])]

    def _of_sums(self, table: str, period: str, days: Days) -> str:
        conditions = [f"e.{period} >= {self.values.put(days.first)}"]
        if days.end is not None:
            conditions.append(f"e.{period} < {self.values.put(days.end)}")
        return self._fact(f"{table} e", _OF_SUMS, conditions, day=f"e.{period}")

    def _of_entries(self, source: str, figures: Mapping[str, str], conditions: Sequence[str]) -> str:
        return self._fact(source, figures, conditions, day=self._day)

    def _fact(self, source: str, figures: Mapping[str, str], conditions: Sequence[str], *, day: str) -> str:
        groups = [f"{self._grouping(name, day)} AS {column}" for name, column in self._columns.items()]
        sums = [f"{figures.get(name, '0')} AS {name}" for name in _FIGURES]
        where = " AND ".join([*conditions, *self._seen])
        return f"SELECT {', '.join([*groups, *sums])} FROM {source} WHERE {where} {self._grouped()}"  # noqa: S608

    def _grouping(self, name: str, day: str) -> str:
        if name in PERIODS:
            return day if name == "day" else f"date_trunc('{name}', {day}::timestamp)::date"
        return self._tags.get(name) or f"e.{self._columns[name]}"

    def _grouped(self) -> str:
        """Where nothing happened there is no line, not even of a report by nothing."""
        numbers = ", ".join(str(number + 1) for number in range(len(self._columns)))
        return f"{f'GROUP BY {numbers} ' if numbers else ''}HAVING count(*) > 0"

    def _within(self, period: Period) -> list[str]:
        conditions = [f"e.booked_at >= {self.values.put(period.since)}"]
        return conditions if period.until is None else [*conditions, f"e.booked_at < {self.values.put(period.until)}"]

    def _shown(self) -> list[str]:
        """The members of a line, as texts."""
        shown = []
        for name, column in self._columns.items():
            if name in PEOPLE:
                shown += [sql_show(name, f"l.{column}"), f"{name}_of.name"]
            elif name in PERIODS:
                shown.append(f"to_char(l.{column}, '{'YYYY-MM' if name == 'month' else 'YYYY-MM-DD'}')")
            else:
                shown.append(f"l.{column}")
        return shown

    def _names(self) -> list[str]:
        people = [name for name in self._columns if name in PEOPLE]
        return [f"LEFT JOIN {PEOPLE[name]} {name}_of ON {name}_of.id = l.{name}_id" for name in people]

    def _order(self) -> list[str]:
        periods = [f"l.{self._columns[name]}" for name in self._groups.periods]
        others = [
            f"l.{column}" + ("" if name in PEOPLE else ' COLLATE "C"')
            for name, column in self._columns.items()
            if name not in PERIODS
        ]
        return [*periods, "l.charged_usd DESC", *others]


def _column(name: str, number: int) -> str:
    """How a grouping is called in the statement."""
    return f"{name}_id" if name in PEOPLE else f"tag_{number}" if name.startswith(TAG) else name


def _shown_figures() -> list[str]:
    money = [sql_decimal_text(f"l.{name}") for name in ("charged_usd", "held_usd")]
    return [*money, "trim_scale(l.seconds)::text", *(f"l.{name}::bigint" for name in SUMS[2:])]

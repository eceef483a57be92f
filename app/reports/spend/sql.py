"""The statement of a report of spend: what each part of its period adds, summed by group."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.ledger.spend import SUMS
from app.money import sql_decimal_text
from app.reports.period import Period
from app.reports.spend.groups import PEOPLE, PERIODS, TAG, Groups
from app.reports.spend.parts import Days, days_of, only_entries, split

_FIGURES: Final = ("held_usd", *SUMS)

_OF_SUMS: Final = {name: f"sum(s.{name})" for name in SUMS}
_CHARGED: Final = "FILTER (WHERE e.kind IN ('settle', 'overage', 'adjustment'))"
_OF_ENTRIES: Final = {
    "charged_usd": f"coalesce(sum(e.amount_usd) {_CHARGED}, 0)",
    "seconds": f"coalesce(sum(e.seconds) {_CHARGED}, 0)",
    "jobs": "count(*) FILTER (WHERE e.kind = 'hold')",
    **{name: f"count(*) FILTER (WHERE r.status = '{name}')" for name in ("succeeded", "failed", "canceled")},
}
_ENTRIES: Final = """entries e CROSS JOIN LATERAL (
    SELECT CASE WHEN e.kind IN ('settle', 'void')  -- rows of the release before have no job_status
                THEN coalesce(e.job_status, (SELECT j.status FROM jobs j WHERE j.id = e.job_id)) END AS status
) r"""
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
    """`s` is a row of the sums, `e` an entry."""

    def __init__(self, groups: Groups, actor: Actor) -> None:
        self.values: list[Any] = []
        self._groups = groups
        self._reach = self._seen_by(actor)
        self._day = ""
        self._tags = {name: f"e.tags ->> {self._value(name.removeprefix(TAG))}::text" for name in groups.tags}
        self._columns = {name: _column(name, number) for number, name in enumerate(groups.names)}

    def tell_days(self, period: Period, zone: ZoneInfo, *, now: datetime) -> None:
        """How an entry's day is found: Postgres' own days overlap when clocks change."""
        days, starts = days_of(period, zone, now=now)
        bucket = f"width_bucket(e.booked_at, {self._value(starts)}::timestamptz[])"
        self._day = f"({self._value(days)}::date[])[{bucket}]"

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

    def _value(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def _seen_by(self, actor: Actor) -> list[str]:
        if actor.caller is None or actor.role in {"admin", "finance"}:
            return []
        if actor.role == "lead":
            return [f"%s.team_id = {self._value(actor.caller.team_id)}"]
        return [f"%s.user_id = {self._value(actor.caller.user_id)}"]

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
        conditions = [f"s.{period} >= {self._value(days.first)}"]
        if days.end is not None:
            conditions.append(f"s.{period} < {self._value(days.end)}")
        return self._fact(f"{table} s", f"s.{period}", _OF_SUMS, conditions)

    def _of_entries(self, source: str, figures: Mapping[str, str], conditions: Sequence[str]) -> str:
        return self._fact(source, self._day, figures, conditions)

    def _fact(self, source: str, day: str, figures: Mapping[str, str], conditions: Sequence[str]) -> str:
        row = "s" if figures is _OF_SUMS else "e"
        groups = [f"{self._told(name, row, day)} AS {column}" for name, column in self._columns.items()]
        sums = [f"{figures.get(name, '0')} AS {name}" for name in _FIGURES]
        where = " AND ".join([*conditions, *(reach % row for reach in self._reach)])
        return f"SELECT {', '.join([*groups, *sums])} FROM {source} WHERE {where} {self._grouped()}"  # noqa: S608

    def _told(self, name: str, row: str, day: str) -> str:
        """A grouping, of a row of the sums or an entry."""
        if name in PERIODS:
            return day if name == "day" else f"date_trunc('{name}', {day}::timestamp)::date"
        return self._tags.get(name) or f"{row}.{self._columns[name]}"

    def _grouped(self) -> str:
        """Where nothing happened there is no line, not even of a report by nothing."""
        numbers = ", ".join(str(number + 1) for number in range(len(self._columns)))
        return f"{f'GROUP BY {numbers} ' if numbers else ''}HAVING count(*) > 0"

    def _within(self, period: Period) -> list[str]:
        conditions = [f"e.booked_at >= {self._value(period.since)}"]
        return conditions if period.until is None else [*conditions, f"e.booked_at < {self._value(period.until)}"]

    def _shown(self) -> list[str]:
        """The members of a line, as texts."""
        shown = []
        for name, column in self._columns.items():
            if name in PEOPLE:
                shown += [f"'{name}_' || replace(l.{column}::text, '-', '')", f"{name}_of.name"]
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

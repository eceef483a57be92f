"""The statement of a report of spend: what each part of its period adds, summed by group."""

from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.ledger.spend import SUMS
from app.money import sql_decimal_text
from app.reports.days import Days, Parts, days_of, only_entries, split
from app.reports.groups import PEOPLE, PERIODS, TAG, Groups
from app.reports.period import Period

_FIGURES: Final = ("held_usd", *SUMS)

_OF_ENTRY: Final = """0 AS held_usd,
    CASE WHEN e.kind IN ('settle', 'overage', 'adjustment') THEN e.amount_usd ELSE 0 END AS charged_usd,
    CASE WHEN e.kind IN ('settle', 'overage', 'adjustment') THEN e.seconds ELSE 0 END AS seconds,
    (e.kind = 'hold')::int AS jobs, (r.status = 'succeeded')::int AS succeeded, (r.status = 'failed')::int AS failed,
    (r.status = 'canceled')::int AS canceled"""
_ENTRIES: Final = """entries e CROSS JOIN LATERAL (
    SELECT CASE WHEN e.kind IN ('settle', 'void')  -- rows of the release before have no job_status
                THEN coalesce(e.job_status, (SELECT j.status FROM jobs j WHERE j.id = e.job_id)) END AS status
) r"""
_UNFINISHED: Final = "jobs j JOIN entries e ON e.id = j.id AND e.kind = 'hold'"


def statement(
    period: Period, groups: Groups, *, zone: ZoneInfo, now: datetime, actor: Actor, most: int
) -> tuple[str, list[Any]]:
    """SQL and its values: a row a line, the members of `groups` and then the figures, money as text.

    At most one line more than `most`.
    """
    summed = groups.are_summed
    by_month = not {"day", "week"} & {*groups.names}
    parts = split(period, zone, by_month=by_month) if summed else only_entries(period)
    return _Statement(period, parts, groups, zone, now, actor).written(most)


class _Statement:
    def __init__(
        self, period: Period, parts: Parts, groups: Groups, zone: ZoneInfo, now: datetime, actor: Actor
    ) -> None:
        self._period = period
        self._parts = parts
        self._groups = groups
        self._values: list[Any] = []
        self._reach = self._seen_by(actor)
        self._day = ""
        if groups.periods:
            days, starts = days_of(period, zone, now=now)
            self._day = (
                f"({self._value(days)}::date[])[width_bucket(e.booked_at, {self._value(starts)}::timestamptz[])]"
            )
        self._tags = [f"e.tags ->> {self._value(name)}::text" for name in groups.tags]

    def written(self, most: int) -> tuple[str, list[Any]]:
        facts = "\nUNION ALL\n".join(self._facts())
        groups = [f"{expression} AS {column}" for column, expression in self._grouped()]
        by = ", ".join(str(number + 1) for number in range(len(groups)))
        sums = [f"sum(f.{name}) AS {name}" for name in _FIGURES]
        sql = f"""
WITH lines AS (
    SELECT {", ".join([*groups, *sums])}
    FROM ({facts}) f {f"GROUP BY {by}" if by else ""} HAVING count(*) > 0
)
SELECT {", ".join([*self._shown(), *_shown_figures()])}
FROM lines l {" ".join(self._names())}
ORDER BY {", ".join(self._order())} LIMIT {most + 1}
"""  # noqa: S608  ours
        return sql, self._values

    def _value(self, value: Any) -> str:
        self._values.append(value)
        return f"${len(self._values)}"

    def _seen_by(self, actor: Actor) -> list[str]:
        if actor.caller is None or actor.role in {"admin", "finance"}:
            return []
        if actor.role == "lead":
            return [f"%s.team_id = {self._value(actor.caller.team_id)}"]
        return [f"%s.user_id = {self._value(actor.caller.user_id)}"]

    def _facts(self) -> list[str]:
        parts = self._parts
        facts = [] if parts.months is None else [self._sums("spend_monthly", "month", parts.months)]
        facts += [self._sums("spend_daily", "day", days) for days in parts.days]
        facts += [self._booked(_ENTRIES, _OF_ENTRY, edge) for edge in parts.edges]
        return [*facts, self._booked(_UNFINISHED, self._of_unfinished(), self._period, "j.finished_at IS NULL")]

    def _sums(self, table: str, period: str, days: Days) -> str:
        columns = [f"s.{period} AS day"] if self._day else []
        columns += [f"s.{column}" for column in self._columns()]
        conditions = [f"s.{period} >= {self._value(days.first)}"]
        if days.end is not None:
            conditions.append(f"s.{period} < {self._value(days.end)}")
        conditions += [reach % "s" for reach in self._reach]
        figures = ["0 AS held_usd", *(f"s.{name}" for name in SUMS)]
        return f"SELECT {', '.join([*columns, *figures])} FROM {table} s WHERE {' AND '.join(conditions)}"  # noqa: S608

    def _booked(self, source: str, figures: str, period: Period, *conditions: str) -> str:
        columns = [f"{self._day} AS day"] if self._day else []
        columns += [f"e.{column}" for column in self._columns()]
        columns += [f"{tag} AS tag_{number}" for number, tag in enumerate(self._tags)]
        where = [*conditions, *self._within(period), *(reach % "e" for reach in self._reach)]
        return f"SELECT {', '.join([*columns, figures])} FROM {source} WHERE {' AND '.join(where)}"  # noqa: S608

    def _within(self, period: Period) -> list[str]:
        conditions = [f"e.booked_at >= {self._value(period.since)}"]
        return conditions if period.until is None else [*conditions, f"e.booked_at < {self._value(period.until)}"]

    def _of_unfinished(self) -> str:
        """They are held; and their acceptance, which an edge counts itself, is not yet in the sums."""
        summed = self._parts.summed
        accepted = "0" if summed is None else f"({' AND '.join(self._within(summed))})::int"
        return f"j.held_usd, 0, 0, {accepted}, 0, 0, 0"

    def _columns(self) -> list[str]:
        """What every row is grouped by, apart from its day and tags."""
        return [f"{name}_id" if name in PEOPLE else name for name in self._groups.names if not _is_made(name)]

    def _grouped(self) -> list[tuple[str, str]]:
        """Each grouping, in the order asked for: its column among the lines, and how that is told of a fact."""
        found, tags = [], 0
        for name in self._groups.names:
            if name == "day":
                found.append(("day", "f.day"))
            elif name in PERIODS:
                found.append((name, f"date_trunc('{name}', f.day::timestamp)::date"))
            elif name.startswith(TAG):
                found.append((f"tag_{tags}", f"f.tag_{tags}"))
                tags += 1
            else:
                column = f"{name}_id" if name in PEOPLE else name
                found.append((column, f"f.{column}"))
        return found

    def _shown(self) -> list[str]:
        """The members of a line, as texts."""
        shown = []
        for name, (column, _) in zip(self._groups.names, self._grouped(), strict=True):
            if name in PEOPLE:
                shown += [f"'{name}_' || replace(l.{column}::text, '-', '')", f"{name}_of.name"]
            elif name in PERIODS:
                shown.append(f"to_char(l.{column}, '{'YYYY-MM' if name == 'month' else 'YYYY-MM-DD'}')")
            else:
                shown.append(f"l.{column}")
        return shown

    def _names(self) -> list[str]:
        return [
            f"LEFT JOIN {PEOPLE[name]} {name}_of ON {name}_of.id = l.{name}_id"
            for name in self._groups.names
            if name in PEOPLE
        ]

    def _order(self) -> list[str]:
        columns = dict(zip(self._groups.names, (column for column, _ in self._grouped()), strict=True))
        periods = [f"l.{columns[name]}" for name in self._groups.periods]
        others = [
            f"l.{column}" + ("" if name in PEOPLE else ' COLLATE "C"')
            for name, column in columns.items()
            if name not in PERIODS
        ]
        return [*periods, "l.charged_usd DESC", *others]


def _is_made(name: str) -> bool:
    """Whether a grouping is no column of the tables it is told from."""
    return name in PERIODS or name.startswith(TAG)


def _shown_figures() -> list[str]:
    money = [sql_decimal_text(f"l.{name}") for name in ("charged_usd", "held_usd")]
    return [*money, "trim_scale(l.seconds)::text", *(f"l.{name}::bigint" for name in SUMS[2:])]

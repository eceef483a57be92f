"""What a report of refusals is asked for, and its lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.db import Database
from app.ids import sql_show
from app.problems import InvalidInput
from app.reports.calendar import days_of
from app.reports.limits import MOST_LINES, TIMEOUT, reading, require_lines
from app.reports.parameters import read_parameters
from app.reports.period import Faults, Period, read_period
from app.reports.reach import seen_by
from app.reports.values import Values

_PARAMETERS: Final = ("since", "until", "group_by", "format")


@dataclass(frozen=True, slots=True)
class _Group:
    """`grouped` is what is grouped by, over `refusals r`; `shown` its members, over `lines l`; `order` sorts by it."""

    grouped: str
    shown: dict[str, str]
    join: str = ""
    order: str = ""


def _named(what: str) -> _Group:
    shown = {f"{what}_id": sql_show(what, f"l.{what}"), what: f"{what}_row.name"}
    return _Group(f"r.{what}_id", shown, f"LEFT JOIN {what}s {what}_row ON {what}_row.id = l.{what}")


_GROUPS: Final = {
    "hour": _Group(
        "r.hour", {"hour": """to_char(l.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""}, order="l.hour"
    ),
    "day": _Group("", {"day": "l.day::text"}, order="l.day"),
    "team": _named("team"),
    "user": _named("user"),
    "code": _Group("r.code", {"code": "l.code"}),
    "quota": _Group(
        "r.quota_id",
        {"quota_id": sql_show("quota", "l.quota"), "scope": "q.scope", "metric": "q.metric", "window": 'q."window"'},
        "LEFT JOIN quotas q ON q.id = l.quota",
    ),
}
NAMES: Final = tuple(_GROUPS)


@dataclass(frozen=True, slots=True)
class Asked:
    """`groups` are of NAMES, each once, in the order they were asked for."""

    period: Period
    groups: tuple[str, ...]
    zone: ZoneInfo

    @property
    def members(self) -> list[str]:
        """What a line calls its groups: `team` is `team_id` and `team`."""
        return [member for name in self.groups for member in _GROUPS[name].shown]


Line = tuple[Any, ...]
"""Texts or None for `Asked.members`, and at last how many times."""


def read_asked(query: Sequence[tuple[str, str]], *, now: datetime, zone: ZoneInfo, faults: Faults) -> Asked:
    """What names and values, as they stand in a URL, ask for; `format` is another's to read.

    Raises InvalidInput with all faults at once: those that were found before and what is wrong here.
    """
    given = read_parameters(query, _PARAMETERS, faults)
    period = read_period(given.get("since"), given.get("until"), now=now, zone=zone, faults=faults)
    groups = tuple(given["group_by"].split(",")) if "group_by" in given else ()
    if set(groups) - _GROUPS.keys():
        faults.append({"parameter": "group_by", "detail": f"must be of {', '.join(NAMES)}, with commas between"})
    if len(set(groups)) < len(groups):
        faults.append({"parameter": "group_by", "detail": "name each grouping once"})
    if faults:
        raise InvalidInput(faults)
    return Asked(period, groups, zone)


async def read_refusals(db: Database, asked: Asked, *, actor: Actor, now: datetime) -> list[Line]:
    """The lines that this actor may see: a member its own, a lead its team's, others all.

    Hours and days in order, then the most frequent first. An hour counts where it begins. Raises ReportTooLarge.
    """
    sql, values = _statement(asked, actor, now=now)
    async with reading(db) as plain:
        rows = await plain.fetch(sql, *values, timeout=TIMEOUT)
    require_lines(len(rows))
    return [tuple(row) for row in rows]


def _statement(asked: Asked, actor: Actor, *, now: datetime) -> tuple[str, list[Any]]:
    values = Values()
    # By the beginning of refusals_one_key.
    where = [f"r.hour >= {values.put(asked.period.since)}"]
    if asked.period.until is not None:
        where.append(f"r.hour < {values.put(asked.period.until)}")
    if (seen := seen_by(actor)) is not None:
        where.append(f"r.{seen[0]} = {values.put(seen[1])}")
    groups = [_GROUPS[name] for name in asked.groups]
    grouped = {name: _GROUPS[name].grouped for name in asked.groups}
    if "day" in grouped:
        days, starts = days_of(asked.period, asked.zone, now=now)
        grouped["day"] = f"({values.put(days)}::date[])[width_bucket(r.hour, {values.put(starts)}::timestamptz[])]"
    by = ", ".join(map(str, range(1, len(groups) + 1)))
    of_lines = [f"{sql} AS {member}" for group in groups for member, sql in group.shown.items()]
    order = [*(group.order for group in groups if group.order), "l.times DESC", *(f"l.{name}" for name in grouped)]
    return (
        f"""
WITH lines AS (
    SELECT {", ".join([*(f"{sql} AS {name}" for name, sql in grouped.items()), "sum(r.times)::bigint AS times"])}
    FROM refusals r WHERE {" AND ".join(where)} {f"GROUP BY {by}" if by else ""} HAVING count(*) > 0
)
SELECT {", ".join([*of_lines, "l.times"])} FROM lines l {" ".join(group.join for group in groups)}
ORDER BY {", ".join(order)} LIMIT {MOST_LINES + 1}
""",  # noqa: S608  ours
        values,
    )

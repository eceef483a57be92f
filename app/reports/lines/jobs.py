"""`jobs.csv`: a line for each job, with the day it was made and the day it was charged."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.db import sql_moment
from app.ids import first_id, parse, sql_show
from app.jobs.reads.reach import listed_by
from app.money import sql_decimal_text
from app.problems import InvalidInput
from app.reports.calendar import months_through
from app.reports.lines.cells import sql_json_cell, sql_line, sql_text_cell
from app.reports.lines.pages import SQL_LAST, SQL_SLICE, ByBooking, ByJob
from app.reports.parameters import read_parameters
from app.reports.period import Faults, Period, read_period
from app.reports.values import Values

DATES: Final = ("created", "charged")
_NAMES: Final = ("since", "until", "date", "team_id", "user_id", "model")

COLUMNS: Final = {
    "job_id": sql_show("job", "j.id"),
    "created_at": sql_moment("j.created_at"),
    "charged_at": sql_moment("c.booked_at"),
    "charged_month": "({names}::text[])[width_bucket(c.booked_at, {starts}::timestamptz[])]",
    "status": "j.status",
    "model": sql_text_cell("j.model"),
    "endpoint": sql_text_cell("j.endpoint"),
    "team_id": sql_show("team", "j.team_id"),
    "team": sql_text_cell("t.name"),
    "user_id": sql_show("user", "j.user_id"),
    "user": sql_text_cell("u.name"),
    "key_id": sql_show("key", "j.key_id"),
    "key": sql_text_cell("k.name"),
    "end_user": sql_text_cell("j.end_user"),
    "tags": sql_json_cell("j.tags"),
    "seconds": "trim_scale(j.seconds)",
    "quoted_usd": sql_decimal_text("j.quoted_usd"),
    "held_usd": sql_decimal_text("j.held_usd"),
    "charged_usd": sql_decimal_text("j.charged_usd"),
    "fal_request_id": sql_text_cell("j.fal_request_id"),
}
"""Each column, and the SQL of its cell; a job's tags, team, user and key are those it was made with."""
HEADER: Final = ",".join(COLUMNS).encode() + b"\r\n"

_OF_JOB: Final = ", ".join(
    f"j.{name}"
    for name in (
        "id", "created_at", "status", "model", "endpoint", "team_id", "user_id", "key_id", "end_user", "tags",
        "seconds", "quoted_usd", "held_usd", "charged_usd", "fal_request_id",
    )
)  # fmt: skip
_LINES: Final = """
LEFT JOIN teams t ON t.id = j.team_id LEFT JOIN users u ON u.id = j.user_id LEFT JOIN keys k ON k.id = j.key_id
"""


@dataclass(slots=True)
class JobsAsked:
    """Which jobs, by which of their dates; `filters` are conditions on a column, `team_id`, say."""

    period: Period
    date: str = "created"
    filters: dict[str, Any] = field(default_factory=dict)


def read_jobs_asked(query: list[tuple[str, str]], *, now: datetime, zone: ZoneInfo) -> JobsAsked:
    """What a URL asks for. Raises InvalidInput, all faults at once."""
    faults: Faults = []
    given = read_parameters(query, _NAMES, faults)
    asked = JobsAsked(read_period(given.get("since"), given.get("until"), now=now, zone=zone, faults=faults))
    for name, value in given.items():
        if name == "date" and value in DATES:
            asked.date = value
        elif name == "date":
            faults.append({"parameter": "date", "detail": f"must be one of {', '.join(DATES)}"})
        elif name == "model":
            asked.filters[name] = value
        elif name in ("team_id", "user_id"):
            prefix = name.removesuffix("_id")
            asked.filters[name] = parse(prefix, value)
            if asked.filters[name] is None:
                faults.append({"parameter": name, "detail": f"must be an id: {prefix}_ and 32 hex digits"})
    if faults:
        raise InvalidInput(faults)
    return asked


def by_created(asked: JobsAsked, *, actor: Actor, until: datetime, last: datetime, zone: ZoneInfo) -> ByJob:
    """The jobs that were accepted in the period, in that order; none was charged after `last`."""
    values = Values(3)
    conditions = [
        "j.id > $1 AND j.id < $2",
        *(f"j.{name} = {values.put(value)}" for name, value in asked.filters.items()),
    ]
    arms = []
    for reach in _reached(actor, values):
        where = " AND ".join([*conditions, *(f"j.{name} = {value}" for name, value in reach.items())])
        arms.append(f"(SELECT {_OF_JOB} FROM jobs j WHERE {where} ORDER BY j.id LIMIT $3)")  # noqa: S608  ours
    sql = f"""
WITH page AS MATERIALIZED (SELECT * FROM ({" UNION ".join(arms)}) a ORDER BY id LIMIT $3)
SELECT convert_to(string_agg(l.line, '' ORDER BY l.id), 'UTF8') AS text, count(*) AS lines,
       (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last_id
FROM (
    SELECT j.id, {_line(asked.period.since, last, zone, values)} AS line
    FROM page j {_LINES}
    LEFT JOIN LATERAL (
        SELECT e.booked_at FROM entries e WHERE e.job_id = j.id AND e.resolves_id IS NOT NULL
    ) c ON true
) l
"""  # noqa: S608  ours
    return ByJob(sql, values, first_id(asked.period.since), first_id(until))


def by_charged(asked: JobsAsked, *, actor: Actor, until: datetime, zone: ZoneInfo) -> ByBooking:
    """The jobs whose settle or void was booked in the period, in that order."""
    values = Values(4)
    conditions = [f"e.{name} = {values.put(value)}" for name, value in asked.filters.items()]
    reached = [
        " AND ".join(f"e.{name} = {value}" for name, value in reach.items()) for reach in _reached(actor, values)
    ]
    if all(reached):
        conditions.append(f"({' OR '.join(reached)})")
    sql = f"""
WITH page AS MATERIALIZED (
    SELECT e.id, e.job_id, e.booked_at FROM entries e
    WHERE {" AND ".join([SQL_SLICE, "e.resolves_id IS NOT NULL", *conditions])}
    ORDER BY e.booked_at, e.id LIMIT $4
)
SELECT convert_to(string_agg(l.line, '' ORDER BY l.booked_at, l.id), 'UTF8') AS text, count(*) AS lines, {SQL_LAST}
FROM (
    SELECT c.id, c.booked_at, {_line(asked.period.since, until, zone, values)} AS line
    FROM page c LEFT JOIN jobs j ON j.id = c.job_id {_LINES}
) l
"""  # noqa: S608  ours
    return ByBooking(sql, values, asked.period.since, until)


def _line(first: datetime, last: datetime, zone: ZoneInfo, values: Values) -> str:
    months = months_through(first, last, zone)
    names, starts = values.put(months.names), values.put(months.starts)
    return sql_line([cell.replace("{names}", names).replace("{starts}", starts) for cell in COLUMNS.values()])


def _reached(actor: Actor, values: Values) -> list[dict[str, str]]:
    """As `GET /v1/jobs` has it, each to be searched by itself."""
    if actor.caller is None:
        return [{}]
    return [{column: values.put(value)} if column else {} for column, value in listed_by(actor.caller)]

"""What the report of refusals looks like on the wire, as /docs shows it, and how it is written."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.ids import QuotaId, TeamId, UserId
from app.reports.csv import safe_cell, total_cells, written
from app.reports.parameters import parameter
from app.reports.refusals.report import NAMES, Asked, Line

TIMES: Final = "times"


class RefusalFigures(BaseModel):
    """A sum."""

    times: Annotated[int, Field(description="A job that two quotas refuse counts for each of them.")]


class RefusalLine(RefusalFigures):
    """A group, with the members that were asked for, and how often it was refused."""

    hour: Annotated[datetime | None, Field(description="When it begins.")] = None
    day: Annotated[str | None, Field(json_schema_extra={"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"})] = None
    team_id: TeamId | None = None
    team: Annotated[str | None, Field(description="Its name now.")] = None
    user_id: UserId | None = None
    user: str | None = None
    code: Annotated[str | None, Field(examples=["quota-exceeded"])] = None
    quota_id: Annotated[QuotaId | None, Field(description="null: no quota refused it.")] = None
    scope: str | None = None
    metric: str | None = None
    window: str | None = None


class RefusalReport(BaseModel):
    """What was refused in `[since, until)`, on days of `timezone`."""

    data: list[RefusalLine]
    total: Annotated[RefusalFigures, Field(description="The sum of all lines.")]
    since: datetime
    until: Annotated[datetime | None, Field(description="null: no end.")]
    timezone: Annotated[str, Field(examples=["Europe/Berlin"])]


GROUP_BY: Final = parameter(
    "group_by",
    {"type": "array", "items": {"type": "string"}, "examples": [["day,quota"]]},
    f"Any of {', '.join(NAMES)}, with commas between or given again.",
)


def write_json(asked: Asked, lines: Sequence[Line]) -> bytes:
    """As RefusalReport."""
    names = [*asked.members, TIMES]
    return to_json(
        {
            "data": [dict(zip(names, line, strict=True)) for line in lines],
            "total": {TIMES: _total(lines)},
            "since": asked.period.since,
            "until": asked.period.until,
            "timezone": asked.zone.key,
        }
    )


def write_csv(asked: Asked, lines: Sequence[Line]) -> bytes:
    """A header, the lines, and a last line with the total."""
    members = asked.members
    shown = [[*map(safe_cell, groups), times] for *groups, times in lines] if members else []
    return written([[*members, TIMES], *shown, [*total_cells(len(members)), _total(lines)]])


def _total(lines: Sequence[Line]) -> int:
    return sum(line[-1] for line in lines)

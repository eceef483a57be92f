"""What the report of spend looks like on the wire, as /docs shows it."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.ids import KeyId, TeamId, UserId
from app.money import Amount
from app.reports.parameters import parameter
from app.reports.spend.groups import MOST_TAGS, NAMES

_DATE: Final[dict[str, Any]] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}


class Figures(BaseModel):
    """Sums, each entry on the day it was booked."""

    charged_usd: Annotated[Amount, Field(description="Settled, with overages and adjustments.")]
    held_usd: Annotated[
        Amount, Field(description="Promised in this time and, as of now, neither charged nor given back.")
    ]
    seconds: Annotated[float, Field(description="Of video, charged.")]
    jobs: Annotated[int, Field(description="Accepted in this time.")]
    succeeded: Annotated[int, Field(description="Ended so in this time, whenever they were accepted.")]
    failed: int
    canceled: int


class SpendLine(Figures):
    """A group, with the members that were asked for, and its sums; `tag.NAME` is a member too: its value or null."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": {"type": ["string", "null"]}})

    day: Annotated[str | None, Field(json_schema_extra=_DATE)] = None
    week: Annotated[str | None, Field(description="Its Monday.", json_schema_extra=_DATE)] = None
    month: Annotated[str | None, Field(examples=["2026-10"])] = None
    team_id: Annotated[TeamId | None, Field(description="As of the hold; a job keeps it.")] = None
    team: Annotated[str | None, Field(description="Its name now.")] = None
    user_id: UserId | None = None
    user: str | None = None
    key_id: KeyId | None = None
    key: str | None = None
    end_user: str | None = None
    model: str | None = None


class SpendReport(BaseModel):
    """What was spent in `[since, until)`, on days of `timezone`."""

    data: list[SpendLine]
    total: Annotated[Figures, Field(description="The sum of all lines.")]
    since: datetime
    until: Annotated[datetime | None, Field(description="null: no end.")]
    timezone: Annotated[str, Field(examples=["Europe/Berlin"])]


GROUP_BY: Final = parameter(
    "group_by",
    {"type": "array", "items": {"type": "string"}, "examples": [["day,team"]]},
    f"Any of {', '.join(NAMES)} and tag.NAME (at most {MOST_TAGS} tags), with commas between or given again. Sums over "
    "end users and tags read every entry of the period.",
)

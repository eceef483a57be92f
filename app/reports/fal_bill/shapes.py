"""What the report of reconciling looks like on the wire, as /docs shows it."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from app.ids import JobId, TeamId, UserId
from app.money import Amount
from app.reports.fal_bill.lists import LISTS, Line
from app.reports.parameters import parameter

Name = Literal["matched", "differs", "ours_only", "fal_only", "pending"]


class ReconciliationLine(BaseModel):
    """A fal request: what we charged for it beside what fal billed."""

    list: Name
    fal_request_id: Annotated[str | None, Field(description="null: a charge that no fal request is known of.")]
    job_id: Annotated[JobId | None, Field(description="null: it is no job of ours.")]
    job_status: str | None
    endpoint: str
    model: str | None
    team_id: TeamId | None
    user_id: UserId | None
    ours_usd: Annotated[Amount, Field(description="Its job's settle or its overage, with adjustments.")]
    fal_usd: Annotated[Amount, Field(description="All billing events of it, after discounts.")]
    difference_usd: Annotated[Amount, Field(description="`fal_usd` less `ours_usd`.")]
    charged_at: Annotated[datetime | None, Field(description="The last entry about it.")]
    billed_at: Annotated[datetime | None, Field(description="The first billing event of it; null: fal has none.")]
    paid_with: Annotated[str | None, Field(description="fal's word for the key or the person.")]
    adjusted_by_hand: Annotated[bool, Field(description="Then `falgate reconcile --adjust` leaves it alone.")]


class ReconciliationSum(BaseModel):
    """A list's sums."""

    requests: int
    ours_usd: Amount
    fal_usd: Amount


class ReconciliationSums(BaseModel):
    """The sums of every list, also of those that were not asked for."""

    matched: ReconciliationSum
    differs: ReconciliationSum
    ours_only: ReconciliationSum
    fal_only: ReconciliationSum
    pending: ReconciliationSum


class ReconciliationRun(BaseModel):
    """When fal's bill was last asked for. `finished_at` null: it is being read, or was killed."""

    since: datetime
    until: datetime
    started_at: datetime
    finished_at: datetime | None
    by: str
    error: Annotated[str | None, Field(description="Why the bill could not be read; what was kept before stands.")]
    events: Annotated[dict[str, int] | None, Field(description="How many were `read`, `added` and `withdrawn`.")]


class ReconciliationReport(BaseModel):
    """Requests billed or charged in `[since, until)`, the newest first, as of what was read of fal's bill."""

    data: list[ReconciliationLine]
    next_cursor: str | None
    total: ReconciliationSums
    last_run: Annotated[ReconciliationRun | None, Field(description="null: fal's bill was never read.")]
    since: datetime
    until: datetime


def show_line(line: Line) -> ReconciliationLine:
    """A line as it stands on the wire."""
    return ReconciliationLine(
        list=line.list,
        fal_request_id=line.fal_request_id,
        job_id=line.job_id,
        job_status=line.job_status,
        endpoint=line.endpoint,
        model=line.model,
        team_id=line.team_id,
        user_id=line.user_id,
        ours_usd=line.ours_usd,
        fal_usd=line.fal_usd,
        difference_usd=line.fal_usd - line.ours_usd,
        charged_at=line.charged_at,
        billed_at=line.billed_at,
        paid_with=line.paid_with,
        adjusted_by_hand=line.is_by_hand,
    )


LIST: Final = parameter("list", {"type": "string", "enum": list(LISTS)}, "Only this list; default: all.")

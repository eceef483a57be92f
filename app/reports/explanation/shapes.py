"""What stands on the wire: a job's entries, and their explanation."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.http import Page
from app.ids import KeyId, PriceId, QuotaId, TeamId, UserId
from app.ledger.quotas import Metric, Scope
from app.ledger.shapes import Entry
from app.ledger.windows import Kind
from app.money import Amount


class ExplainedEntry(Entry):
    """A row of the ledger, and why it is there."""

    source: str = Field(
        description="What it was booked for: the job, its hold, a request at fal, a line of fal's bill."
    )
    why: str = Field(description="The same in plain words.")


class Asked(BaseModel):
    """Who asked for it, and in which team it was made."""

    at: datetime
    user_id: UserId
    key_id: KeyId
    team_id: TeamId
    team: str
    team_archived_at: datetime | None


class Quote(BaseModel):
    """What it was promised for."""

    quoted_usd: Amount
    seconds: float
    model: str
    endpoint: str
    priced_input: dict[str, Any] = Field(
        description="The values of its input that chose the price; `{}`: the price is for every input."
    )


class PriceUsed(BaseModel):
    """The price that was in force when it was asked for: `base_usd` for the first `base_seconds`, and so on."""

    price_id: PriceId
    when: dict[str, Any]
    base_seconds: Amount
    base_usd: Amount
    usd_per_second: Amount
    starts_at: datetime
    arithmetic: str = Field(examples=["1.40 for the first 5 s + 5 s × 0.28 = 2.80"])


class Attempt(BaseModel):
    """One time that it was sent to fal."""

    sent_at: datetime
    outcome: str = Field(
        description="accepted, refused (the input), not_taken (sent anew later), unknown (the answer was lost), "
        "absent (fal never had it), not_started (by its start deadline), cancel_asked, deadline (cancelled: it took "
        "too long), recovered (after a restore), sending."
    )
    fal_request_id: str | None
    billed_usd: Amount | None = Field(description="On fal's bill, once that has been read.")


class FalSide(BaseModel):
    """What fal made of it, and said that it billed."""

    request_id: str | None
    billed_units: Amount | None = Field(description="With the result: seconds of video. Null: fal did not say.")
    billed_usd: Amount | None = Field(description="On fal's bill, for all requests of the job, once that was read.")
    attempts: list[Attempt] = Field(description="Oldest first; of very many the last 100.")


class QuotaTouched(BaseModel):
    """A quota's window that the job was held in, and what it took of it."""

    quota_id: QuotaId
    scope: Scope
    scope_id: str | None
    metric: Metric
    window: Kind | None
    window_starts_at: datetime | None
    window_ends_at: datetime | None
    maximum: Amount = Field(description="As it is now.")
    deleted_at: datetime | None = Field(description="When the quota was deleted; what it counted stays.")
    requested: Amount = Field(description="What the job asked of it when it was accepted.")
    held: Amount = Field(description="What it still holds.")
    used: Amount = Field(description="What it has used up.")


class Explanation(BaseModel):
    """What a job cost, and why."""

    summary: str
    status: str
    charged_usd: Amount | None
    held_usd: Amount
    asked: Asked
    quote: Quote
    price: PriceUsed | None
    fal: FalSide
    quotas: list[QuotaTouched]
    payload_erased_at: datetime | None


class ExplainedEntries(Page[ExplainedEntry]):
    """A job's entries, newest first."""

    explanation: Explanation | None = Field(description="On the first page; null on the others.")

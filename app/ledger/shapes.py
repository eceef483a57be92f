"""What stands on the wire: entries, quotas, and who one is."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.accounts.callers import Role
from app.accounts.fields import ABSENT
from app.accounts.shapes import Team, User
from app.catalogue.fields import NO_NUL
from app.http import Body, ListQuery
from app.ids import EntryId, JobId, PriceId, QuotaId, parse
from app.ledger.quotas import Metric, Scope
from app.ledger.windows import Kind
from app.money import Amount

_MOST_DOLLARS: Final = 1_000_000


def _not_negative(amount: Decimal) -> Decimal:
    if amount < 0:
        raise ValueError("must not be negative")
    return amount


Figure = Annotated[Amount, AfterValidator(_not_negative)]


def _sane(amount: Decimal) -> Decimal:
    """So that sums fit NUMERIC(20,9): what a job costs, whatever its length, and what a day costs."""
    if amount > _MOST_DOLLARS:
        raise ValueError(f"must be at most {_MOST_DOLLARS}")
    return amount


def _shares(percents: list[int]) -> list[int]:
    if len(set(percents)) < len(percents):
        raise ValueError("must not name a share twice")
    return sorted(percents)


Percents = Annotated[
    list[Annotated[int, Field(strict=True, ge=1, le=100)]],
    Field(
        max_length=5,
        description="Shares of the maximum, in percent, at which the team is told, each once a window; `[]`: never. Of "
        "`in_flight`, and per minute, nobody is ever told.",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_shares),
]

Dollars = Annotated[Figure, AfterValidator(_sane)]


class Entry(BaseModel):
    """A row of the ledger."""

    id: EntryId
    job_id: JobId
    kind: Literal["hold", "settle", "void", "overage", "adjustment"]
    amount_usd: Amount
    seconds: float
    price_id: PriceId
    fal_units: Amount | None
    resolves_id: EntryId | None
    note: str | None
    by: str | None
    created_at: datetime = Field(description="When it was booked: the day and the month that reports count it in.")


class QuotaBody(Body):
    """A maximum for one scope, metric and window."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"scope": "organization", "metric": "usd", "window": "month", "maximum": "1000.00"}]
        }
    )

    scope: Scope
    scope_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=128,
            description="A team's, user's or key's id, or your name of an end user. Null: the default of each one "
            "that has no quota of its own for this metric and window.",
        ),
        NO_NUL,
    ] = None
    metric: Metric
    window: Annotated[Kind | None, Field(description="Null for `in_flight`, and only for it.")] = None
    maximum: Figure
    alert_percents: Percents = Field([50, 80, 100])

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.metric == "in_flight") != (self.window is None):
            raise ValueError("in_flight has no window; every other metric needs one")
        if self.scope == "organization" and self.scope_id is not None:
            raise ValueError("the organization has no scope_id: there is one")
        is_id = self.scope in {"team", "user", "key"} and self.scope_id is not None
        if is_id and parse(self.scope, self.scope_id or "") is None:
            raise ValueError(f"scope_id must be a {self.scope}'s id: {self.scope}_ and 32 hex digits")
        return self


class QuotaPatch(Body):
    """What can change of a quota; what is left out stays as it is."""

    maximum: Figure = ABSENT
    alert_percents: Percents = ABSENT

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("must have maximum, alert_percents, or both")
        return self


class QuotaShown(BaseModel):
    """A quota."""

    id: QuotaId
    scope: Scope
    scope_id: str | None
    metric: Metric
    window: Kind | None
    maximum: Amount
    alert_percents: list[int]
    created_at: datetime


class QuotaQuery(ListQuery):
    """Filters of a list of quotas."""

    scope: Scope | None = None
    scope_id: Annotated[str | None, Field(max_length=128), NO_NUL] = None
    metric: Metric | None = None
    window: Kind | None = None


class QuotaStanding(BaseModel):
    """A quota as it applies to you now."""

    quota_id: QuotaId
    scope: Scope
    scope_id: str | None
    metric: Metric
    window: Kind | None
    maximum: Amount
    used: Amount
    held: Amount
    remaining: Amount
    window_starts_at: datetime | None
    window_ends_at: datetime | None


class Me(BaseModel):
    """Who you are here, and what you may still spend."""

    user: User
    team: Team
    role: Role
    quotas: list[QuotaStanding]

"""What stands on the wire: prices, models, what fal's own list says, and what a price would have come to."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from app.accounts.fields import Moment
from app.catalogue.fields import NO_NUL
from app.http import Body, ListQuery
from app.ids import PriceId, TeamId
from app.ledger.shapes import Dollars
from app.money import Amount

PriceState = Literal["past", "current", "future"]
Verdict = Literal["agrees", "differs", "not_comparable", "not_listed"]

_TOO_GREAT: Final = 10**18
_LONGEST_VALUE: Final = 100
_USUAL_DAYS: Final = 30


def _input_value(value: object) -> object:
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < _TOO_GREAT):
        return value
    if isinstance(value, str) and "\0" not in value and len(value) <= _LONGEST_VALUE:
        return value
    raise ValueError(f"must be a string of at most {_LONGEST_VALUE} characters, a whole number, true, false or null")


InputValue = Annotated[
    Any,
    AfterValidator(_input_value),
    WithJsonSchema({"type": ["string", "integer", "boolean", "null"], "maxLength": _LONGEST_VALUE}),
]


class PriceBody(Body):
    """A price: `base_usd` for the first `base_seconds`, then `usd_per_second` for each further second."""

    endpoint: Annotated[str, Field(min_length=1, max_length=300, description="fal's own id.")]
    when: Annotated[
        dict[str, InputValue], Field(max_length=20, description="The input values it is for; `{}` is always.")
    ] = Field(default_factory=dict)
    base_seconds: Dollars
    base_usd: Dollars
    usd_per_second: Dollars
    starts_at: Annotated[Moment | None, Field(description="Not in the past; left out: now.")] = None


class PriceRow(BaseModel):
    """A price row. Rows are never edited."""

    id: PriceId
    endpoint: str
    when: dict[str, Any]
    base_seconds: Amount
    base_usd: Amount
    usd_per_second: Amount
    starts_at: datetime
    created_at: datetime


class PriceShown(PriceRow):
    """A price row, and when it is in force: from `starts_at` until the next one of its endpoint and `when` starts."""

    ends_at: datetime | None = Field(description="Null: no other follows.")
    state: PriceState


class PriceQuery(ListQuery):
    """Filters of a list of prices."""

    endpoint: Annotated[str | None, Field(max_length=300), NO_NUL] = None
    state: PriceState | None = None


class PriceNow(BaseModel):
    """A price in force."""

    price_id: PriceId
    when: dict[str, Any]
    base_seconds: Amount
    base_usd: Amount
    usd_per_second: Amount


class Model(BaseModel):
    """An endpoint of fal that is served here."""

    model: str
    category: Literal["text-to-video", "image-to-video"]
    endpoint: str
    input_schema: dict[str, Any]
    example: dict[str, Any] = Field(description="A body that the category's route accepts as it is.")
    prices: list[PriceNow] = Field(description="Those in force now; exactly one must match an input.")


class FalPrice(BaseModel):
    """What fal's price list says of an endpoint. `unit` is fal's own word."""

    unit_price: str = Field(examples=["0.28"])
    unit: str
    currency: str


class PriceProposed(BaseModel):
    """A body for `POST /v1/prices` that would charge what fal says, from the moment that it is sent."""

    endpoint: str
    when: dict[str, Any]
    base_seconds: Amount
    base_usd: Amount
    usd_per_second: Amount


class PriceCompared(BaseModel):
    """An endpoint of the catalogue: our prices in force, what fal says, and whether they are the same."""

    endpoint: str
    model: str
    ours: list[PriceNow]
    fal: FalPrice | None = Field(description="Null: fal's price list does not name this endpoint.")
    verdict: Verdict
    detail: str
    proposal: PriceProposed | None = Field(
        description="Nobody applies it: send it to `POST /v1/prices`, if fal's own page says the same."
    )


class SimulationBody(PriceBody):
    """A price as for `POST /v1/prices`, which is not written down; `starts_at` may lie in the past."""

    days: Annotated[
        int, Field(strict=True, ge=1, le=366, description="Look at the jobs that ended in so many days until now.")
    ] = _USUAL_DAYS


class Simulated(BaseModel):
    """Jobs that the price would be for: how many, what they were charged, and what they would have been."""

    jobs: int
    quoted_usd: Amount
    simulated_usd: Amount
    difference_usd: Amount


class TeamSimulated(Simulated):
    """The same of one team."""

    team_id: TeamId
    team: str


class Simulation(Simulated):
    """The figures of all teams, those with the highest charges first, and what they leave out."""

    since: datetime
    until: datetime
    unknown_jobs: int = Field(description="Charged jobs whose input was erased, so that nobody can say.")
    unpriced_jobs: int = Field(
        description="Charged jobs whose input two prices would be for, which is none: their like would be refused."
    )
    by_team: list[TeamSimulated]

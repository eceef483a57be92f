"""What stands on the wire of the price check and of the simulation."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from app.ids import TeamId
from app.ledger.shapes import PriceBody, PriceNow
from app.money import Amount

Verdict = Literal["agrees", "differs", "not_comparable", "not_listed"]

_USUAL_DAYS: Final = 30


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

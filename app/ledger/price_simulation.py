"""What the jobs of the last days would have cost under a price that is not in the book.

The basis is what was charged: jobs that succeeded and were charged, by when they ended, at their quotes and the quotes'
seconds. A job is counted when its input, as it was normalised and kept, is one that the new price would be for, among
the prices in force when it starts. Of a job whose input was erased, the price row that it was quoted at tells what it
can; what that leaves open is unknown.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.catalogue.endpoint import Endpoint
from app.catalogue.prices import Price
from app.catalogue.registry import Catalogue
from app.db import Database, Plain
from app.ids import TeamId, new_id
from app.ledger.price_book import find_prices, require_priceable
from app.ledger.shapes import PriceBody
from app.money import ZERO, Amount
from app.problems import InvalidInput

_SECONDS: Final = 20
_USUAL_DAYS: Final = 30

Pair = tuple[str, str]
"""A field of the input, and a value, as JSON text, that some price is for."""


class SimulationBody(PriceBody):
    """A price as for `POST /v1/prices`, which is not written down; `starts_at` may lie in the past."""

    days: Annotated[int, Field(ge=1, le=366, description="Look at the jobs that ended in so many days until now.")] = (
        _USUAL_DAYS
    )


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


@dataclass(frozen=True, slots=True)
class _Group:
    """Charged jobs that are alike: of a team, of so many seconds, with the same answers.

    `answers`: of each pair whether the input has that value; None where that cannot be told.
    """

    team_id: UUID
    team: str
    seconds: Decimal
    answers: Mapping[Pair, bool | None]
    jobs: int
    quoted_usd: Decimal

    def fits(self, price: Price) -> bool | None:
        """Whether the price is for these jobs."""
        answers = [self.answers[pair] for pair in _pairs(price)]
        return False if False in answers else None if None in answers else True


async def simulate_price(db: Database, body: SimulationBody, *, catalogue: Catalogue, now: datetime) -> Simulation:
    """Raises InvalidInput: no such endpoint or input field, or more jobs than can be looked at in the time there is."""
    endpoint = require_priceable(body, catalogue)
    new = Price(
        id=new_id(now),
        endpoint=endpoint.id,
        when=body.when,
        base_seconds=body.base_seconds,
        base_usd=body.base_usd,
        usd_per_second=body.usd_per_second,
        starts_at=max(body.starts_at or now, now),
    )
    since = now - timedelta(days=body.days)
    async with db.reading() as tx:
        in_force = await find_prices(tx, at=new.starts_at, endpoint=endpoint.id)
    others = [price for price in in_force if set(_pairs(price)) != set(_pairs(new))]
    pairs = sorted({pair for price in (new, *others) for pair in _pairs(price)})
    try:
        async with db.begin_plain() as plain:
            await plain.execute(f"SET LOCAL statement_timeout = '{_SECONDS}s'")
            groups = await _read_groups(plain, endpoint, pairs, since=since, until=now)
    except asyncpg.QueryCanceledError:
        fault = f"these days hold more jobs than can be looked at within {_SECONDS} seconds: ask for fewer"
        raise InvalidInput([{"pointer": "/days", "detail": fault}]) from None
    return _sum_up(groups, new, others, since=since, until=now)


def _pairs(price: Price) -> list[Pair]:
    return [(name, json.dumps(value)) for name, value in price.when.items()]


def _sql_groups(pairs: int) -> str:
    """`$1` to `$3`: since, until, endpoint; then of each pair its field, that field's default and the value."""
    answers = ", ".join(
        f"coalesce((j.input -> ${first}::text)::jsonb, ${first + 1}::jsonb) = ${first + 2}::jsonb"
        for first in range(4, 4 + 3 * pairs, 3)
    )
    return f"""
SELECT g.*, t.name AS team, p."when"::text AS "when"
FROM (
    SELECT j.team_id, j.seconds, CASE WHEN j.payload_erased_at IS NOT NULL THEN j.price_id END AS price_id,
           CASE WHEN j.payload_erased_at IS NULL THEN ARRAY[{answers}]::bool[] END AS answers,
           count(*) AS jobs, sum(j.quoted_usd) AS quoted_usd
    FROM jobs j
    WHERE j.finished_at >= $1 AND j.finished_at < $2 AND j.endpoint = $3 AND j.status = 'succeeded'
      AND j.charged_usd > 0
    GROUP BY 1, 2, 3, 4
) g
JOIN teams t ON t.id = g.team_id
LEFT JOIN prices p ON p.id = g.price_id
"""  # noqa: S608  ours


async def _read_groups(
    plain: Plain, endpoint: Endpoint, pairs: Sequence[Pair], *, since: datetime, until: datetime
) -> list[_Group]:
    asked = [part for name, value in pairs for part in (name, _default(endpoint, name), value)]
    rows = await plain.fetch(_sql_groups(len(pairs)), since, until, endpoint.id, *asked, timeout=_SECONDS + 5)
    return [
        _Group(
            team_id=row["team_id"],
            team=row["team"],
            seconds=row["seconds"],
            answers=_answers(row, pairs),
            jobs=row["jobs"],
            quoted_usd=row["quoted_usd"],
        )
        for row in rows
    ]


def _default(endpoint: Endpoint, name: str) -> str | None:
    """What an input that was kept before it had this field would be given now, as JSON; None: it must be given."""
    field = endpoint.input.model_fields.get(name)
    return None if field is None or field.is_required() else to_json(field.get_default()).decode()


def _answers(row: Any, pairs: Sequence[Pair]) -> dict[Pair, bool | None]:
    """Of an erased input the price that the job was quoted at tells the values that it was for."""
    if row["answers"] is not None:
        return dict(zip(pairs, row["answers"], strict=True))
    told = json.loads(row["when"] or "{}")
    return {(name, value): json.dumps(told[name]) == value if name in told else None for name, value in pairs}


def _sum_up(
    groups: Iterable[_Group], new: Price, others: Sequence[Price], *, since: datetime, until: datetime
) -> Simulation:
    counted: dict[UUID, list[_Group]] = defaultdict(list)
    unknown = unpriced = 0
    for group in groups:
        fits, beside = group.fits(new), [group.fits(price) for price in others]
        if fits and not any(beside) and None not in beside:
            counted[group.team_id].append(group)
        elif fits and any(beside):
            unpriced += group.jobs
        elif fits is not False:
            unknown += group.jobs
    by_team = [
        TeamSimulated(team_id=team_id, team=of_team[0].team, **_figures(of_team, new))
        for team_id, of_team in counted.items()
    ]
    return Simulation(
        since=since,
        until=until,
        unknown_jobs=unknown,
        unpriced_jobs=unpriced,
        by_team=sorted(by_team, key=lambda team: (-team.quoted_usd, team.team)),
        **_figures([group for of_team in counted.values() for group in of_team], new),
    )


def _figures(groups: Sequence[_Group], new: Price) -> dict[str, Any]:
    quoted = sum((group.quoted_usd for group in groups), ZERO)
    simulated = sum((group.jobs * new.usd(group.seconds) for group in groups), ZERO)
    return {
        "jobs": sum(group.jobs for group in groups),
        "quoted_usd": quoted,
        "simulated_usd": simulated,
        "difference_usd": simulated - quoted,
    }

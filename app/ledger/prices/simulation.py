"""What the jobs of the last days would have cost under a price that is not in the book.

The basis is what was charged: jobs that succeeded and were charged, by when they ended, at their quotes and the quotes'
seconds. A job is counted when the new price would be for its input, among the prices in force when it starts. What the
input was, the price that the job was quoted at often tells by its `when`; where it does not, the input is looked at, as
it was normalised and kept; and where that has been erased, nobody can say.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from pydantic_core import to_json
from sqlalchemy import select

from app.catalogue.endpoint import Endpoint
from app.catalogue.prices import Price, prices
from app.catalogue.registry import Catalogue
from app.db import Database, Plain
from app.ids import new_id
from app.ledger.prices.book import find_prices, require_priceable
from app.ledger.prices.shapes import Simulation, SimulationBody, TeamSimulated
from app.money import ZERO
from app.problems import InvalidInput

_SECONDS: Final = 20

Pair = tuple[str, str]
"""A field of the input, and a value, as JSON text, that some price is for."""

Answers = Mapping[Pair, bool | None]
"""Whether an input has that value; None where that cannot be told."""

Fate = Literal["priced", "unpriced", "another's", "unknown"]
"""What becomes of a job: the new price is for it; and so is another; it is not; or nobody can say."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Charged jobs that are alike: of a team, of so many seconds, and of one fate."""

    team_id: UUID
    team: str
    seconds: Decimal
    fate: Fate
    jobs: int
    quoted_usd: Decimal


class _Question:
    """A new price among those in force: which values of an input decide whether it is the one."""

    def __init__(self, new: Price, in_force: Sequence[Price]) -> None:
        self.new = new
        self._others = [price for price in in_force if set(_pairs(price.when)) != set(_pairs(new.when))]
        self.values: dict[str, list[str]] = defaultdict(list)
        for name, value in sorted({pair for price in (new, *self._others) for pair in _pairs(price.when)}):
            self.values[name].append(value)

    def fate(self, answers: Answers) -> Fate:
        """Of a job of whose input this is known: exactly one price must be for it."""
        fits = _fits(self.new, answers)
        beside = [_fits(price, answers) for price in self._others]
        if fits is False:
            return "another's"
        if fits and True in beside:
            return "unpriced"
        return "priced" if fits and None not in beside else "unknown"

    def told_by(self, when: Mapping[str, Any]) -> Answers:
        """What is known of an input by the price that it was quoted at."""
        told = dict(_pairs(when))
        return {
            (name, value): told[name] == value if name in told else None
            for name, possible in self.values.items()
            for value in possible
        }

    def told_by_numbers(self, numbers: Sequence[int]) -> Answers:
        """What is known by which of its values each field has, from 1; 0 is another."""
        return {
            (name, value): n == number
            for (name, possible), number in zip(self.values.items(), numbers, strict=True)
            for n, value in enumerate(possible, 1)
        }


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
        question = _Question(new, await find_prices(tx, at=new.starts_at, endpoint=endpoint.id))
        rows = await tx.execute(select(prices.c.id, prices.c.when).where(prices.c.endpoint == endpoint.id))
        told = {row.id: question.told_by(row.when) for row in rows}
    try:
        async with db.begin_plain() as plain:
            await plain.execute(f"SET LOCAL statement_timeout = '{_SECONDS}s'")
            groups = await _read_groups(plain, endpoint, question, told, since=since, until=now)
    except asyncpg.QueryCanceledError:
        fault = f"these days hold more jobs than can be looked at within {_SECONDS} seconds: ask for fewer"
        raise InvalidInput([{"pointer": "/days", "detail": fault}]) from None
    return _sum_up(groups, new, since=since, until=now)


def _pairs(when: Mapping[str, Any]) -> list[Pair]:
    return [(name, json.dumps(value)) for name, value in when.items()]


def _fits(price: Price, answers: Answers) -> bool | None:
    known = [answers[pair] for pair in _pairs(price.when)]
    return False if False in known else None if None in known else True


def _sql_groups(values: Mapping[str, Sequence[str]]) -> str:
    """`$1` to `$4`: since, until, endpoint, the prices by which a job's fate is known without a look at its input.

    Then of each field its name, its default, and the values that it may have. `numbers` has for each field the number
    of the value that the input has, from 1; 0 is another. NULL: not looked at, or erased.
    """
    given = count(5)
    numbers = [
        f"CASE coalesce((j.input -> ${next(given)}::text)::jsonb, ${next(given)}::jsonb) "
        + " ".join(f"WHEN ${next(given)}::jsonb THEN {n}" for n in range(1, len(possible) + 1))
        + " ELSE 0 END"
        for possible in values.values()
    ]
    return f"""
SELECT g.*, t.name AS team
FROM (
    SELECT j.team_id, j.seconds, j.price_id,
           CASE WHEN j.payload_erased_at IS NULL AND j.price_id <> ALL($4)
                THEN ARRAY[{", ".join(numbers)}]::int[] END AS numbers,
           count(*) AS jobs, sum(j.quoted_usd) AS quoted_usd
    FROM jobs j
    WHERE j.finished_at >= $1 AND j.finished_at < $2 AND j.endpoint = $3 AND j.status = 'succeeded'
      AND j.charged_usd > 0
    GROUP BY 1, 2, 3, 4
) g
JOIN teams t ON t.id = g.team_id
"""  # noqa: S608  ours


async def _read_groups(
    plain: Plain,
    endpoint: Endpoint,
    question: _Question,
    told: Mapping[UUID, Answers],
    *,
    since: datetime,
    until: datetime,
) -> list[_Group]:
    """`told`: what each price of the endpoint that there ever was tells of the inputs of jobs quoted at it."""
    known = [price_id for price_id, answers in told.items() if question.fate(answers) != "unknown"]
    asked = [part for name, possible in question.values.items() for part in (name, _default(endpoint, name), *possible)]
    rows = await plain.fetch(
        _sql_groups(question.values), since, until, endpoint.id, known, *asked, timeout=_SECONDS + 5
    )

    def answers_of(row: Any) -> Answers:
        if row["numbers"] is not None:
            return question.told_by_numbers(row["numbers"])
        return told.get(row["price_id"]) or question.told_by({})

    return [
        _Group(
            team_id=row["team_id"],
            team=row["team"],
            seconds=row["seconds"],
            fate=question.fate(answers_of(row)),
            jobs=row["jobs"],
            quoted_usd=row["quoted_usd"],
        )
        for row in rows
    ]


def _default(endpoint: Endpoint, name: str) -> str | None:
    """What an input that was kept before it had this field would be given now, as JSON; None: it must be given."""
    field = endpoint.input.model_fields.get(name)
    return None if field is None or field.is_required() else to_json(field.get_default()).decode()


def _sum_up(groups: Sequence[_Group], new: Price, *, since: datetime, until: datetime) -> Simulation:
    priced = [group for group in groups if group.fate == "priced"]
    of_team: dict[tuple[UUID, str], list[_Group]] = defaultdict(list)
    for group in priced:
        of_team[group.team_id, group.team].append(group)
    by_team = [
        TeamSimulated(team_id=team_id, team=team, **_figures(theirs, new))
        for (team_id, team), theirs in of_team.items()
    ]
    return Simulation(
        since=since,
        until=until,
        unknown_jobs=sum(group.jobs for group in groups if group.fate == "unknown"),
        unpriced_jobs=sum(group.jobs for group in groups if group.fate == "unpriced"),
        by_team=sorted(by_team, key=lambda team: (-team.quoted_usd, team.team)),
        **_figures(priced, new),
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

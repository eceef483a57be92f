"""What a job will cost: the price row that matches its input, applied to its seconds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.catalogue.endpoint import is_same
from app.catalogue.registry import Catalogue
from app.db import MOMENT, MONEY, Tx, metadata
from app.ids import new_id
from app.money import NANO, decimal_text
from app.problems import Problem

prices = Table(
    "prices",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("when", JSONB, nullable=False),
    Column("base_seconds", MONEY, nullable=False),
    Column("base_usd", MONEY, nullable=False),
    Column("usd_per_second", MONEY, nullable=False),
    Column("starts_at", MOMENT, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("id", name="prices_pkey"),
    UniqueConstraint("endpoint", "when", "starts_at", name="prices_endpoint_when_starts_at_key"),
    CheckConstraint("base_seconds >= 0 AND base_usd >= 0 AND usd_per_second >= 0", name="prices_figures_check"),
)


class ModelUnpriced(Problem):
    """This model has no price for this input, or more than one, so nobody can promise what it would cost.

    Nothing was sent and nothing was promised. Whoever runs the gateway adds a price with `POST /v1/prices`.
    """

    status = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price row: `base_usd` for the first `base_seconds`, then `usd_per_second` for each further second."""

    id: UUID
    endpoint: str
    when: Mapping[str, Any]
    base_seconds: Decimal
    base_usd: Decimal
    usd_per_second: Decimal
    starts_at: datetime

    def in_words(self) -> str:
        """`1.40 for 5 s and then 0.28 a second`."""
        further = f"{decimal_text(self.usd_per_second)} a second"
        if not self.base_seconds and not self.base_usd:
            return further
        return f"{decimal_text(self.base_usd)} for {self.base_seconds.normalize():f} s and then {further}"

    def usd(self, seconds: Decimal) -> Decimal:
        """What so many seconds cost, to the nano-dollar: what is held is what is written."""
        exact = self.base_usd + self.usd_per_second * max(Decimal(0), seconds - self.base_seconds)
        return exact.quantize(NANO, ROUND_HALF_UP)

    def is_for(self, given: Mapping[str, Any]) -> bool:
        """Whether the input has every value that `when` names."""
        return all(name in given and is_same(given[name], value) for name, value in self.when.items())


def price_of(rows: Iterable[Price], *, endpoint: str, given: Mapping[str, Any], now: datetime) -> Price:
    """The one price in force for this input. Raises ModelUnpriced unless it is exactly one.

    `given` is the input with its defaults filled in: an absent field can be the dear choice (FAL.md 7.3).
    """
    newest: dict[str, Price] = {}
    for row in sorted(rows, key=lambda row: row.starts_at):
        if row.endpoint == endpoint and row.starts_at <= now:
            newest[repr(sorted(row.when.items()))] = row
    matching = [row for row in newest.values() if row.is_for(given)]
    if len(matching) != 1:
        count = "no price" if not matching else f"{len(matching)} prices"
        raise ModelUnpriced(
            f"{endpoint} has {count} for this input; ask whoever runs the gateway to set one.",
            endpoint=endpoint,
        )
    return matching[0]


async def seed_prices(tx: Tx, catalogue: Catalogue, *, now: datetime) -> list[str]:
    """Write the first price rows of each endpoint that has none at all; returns the ids of those endpoints."""
    priced = set(await tx.scalars(select(prices.c.endpoint).distinct()))
    unpriced = [endpoint for endpoint in catalogue.endpoints if endpoint.id not in priced]
    rows = [
        {
            "id": new_id(now),
            "endpoint": endpoint.id,
            "when": dict(seed.when),
            "base_seconds": seed.base_seconds,
            "base_usd": seed.base_usd,
            "usd_per_second": seed.usd_per_second,
            "starts_at": now,
            "created_at": now,
        }
        for endpoint in unpriced
        for seed in endpoint.prices
    ]
    if rows:
        await tx.execute(insert(prices), rows)
    return [endpoint.id for endpoint in unpriced]

"""What a submit would cost: who asks, what their idempotency key means, which price is in force."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.accounts.callers import CALLER_FROM, KeyUnknown, sql_caller, sql_live
from app.accounts.frozen import sql_freezes
from app.catalogue.prices import Price, price_of
from app.db import Plain
from app.jobs.submits.request import Submission
from app.ledger.holds import Amounts
from app.ledger.quotas import Holder
from app.problems import Problem

_CALLERS: Final = f"""
SELECT c.*, i.job_id, i.fingerprint, {sql_freezes("c.team_id", "c.user_id", "c.key_id")} AS freezes,
       CASE WHEN r.n = 1 THEN (
           SELECT json_agg(json_build_array(p.id, p.endpoint, p."when", p.base_seconds::text, p.base_usd::text,
                                            p.usd_per_second::text, p.starts_at))::text
           FROM prices p WHERE p.endpoint = ANY($4) AND p.starts_at <= $3) END AS prices
FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS r (hash, key, n)
LEFT JOIN LATERAL (
    SELECT {sql_caller("$3")} FROM {CALLER_FROM} WHERE s.hash = r.hash AND {sql_live("$3")}
) c ON true
LEFT JOIN idempotency_keys i ON i.user_id = c.user_id AND i.key = r.key
ORDER BY r.n
"""  # noqa: S608  every part is ours


class IdempotencyKeyReused(Problem):
    """This `Idempotency-Key` was used before, for a request that asked for something else.

    Use a new key for a new job; repeat the same key only with the same route and body. `job_id` names the job that
    the key belongs to.
    """

    status = 422


@dataclass(frozen=True, slots=True)
class Replayed:
    """The job that this Idempotency-Key made before."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class Quoted:
    """A submission of a known caller, with its price."""

    submission: Submission
    holder: Holder
    price: Price

    @property
    def amounts(self) -> Amounts:
        """What it asks of every metric."""
        return Amounts(usd=self.price.usd(self.submission.seconds), seconds=self.submission.seconds)


async def find_callers(plain: Plain, batch: Sequence[Submission], *, now: datetime) -> Sequence[Any]:
    """Who submits, what their idempotency keys mean, and the prices of what they ask for: one row a member."""
    return await plain.fetch(
        _CALLERS,
        [submission.secret_hash for submission in batch],
        [submission.idempotency_key for submission in batch],
        now,
        list({submission.endpoint.id for submission in batch}),
    )


def read_prices(text: str | None) -> list[Price]:
    """The price rows that `find_callers` brings with its first row."""
    return [
        Price(
            id=UUID(row[0]),
            endpoint=row[1],
            when=row[2],
            base_seconds=Decimal(row[3]),
            base_usd=Decimal(row[4]),
            usd_per_second=Decimal(row[5]),
            starts_at=datetime.fromisoformat(row[6]),
        )
        for row in json.loads(text or "[]")
    ]


def quote(submission: Submission, row: Any, prices: Sequence[Price], *, now: datetime) -> Quoted | Replayed | Problem:
    """The price of a submission, or why it has none: an unknown key, a repeated one, no price row."""
    if row["key_id"] is None:
        return KeyUnknown()
    if row["job_id"] is not None:
        if row["fingerprint"] == submission.fingerprint:
            return Replayed(row["job_id"])
        return IdempotencyKeyReused(
            "Use another Idempotency-Key: this one belongs to a request that asked for something else.",
            job_id=f"job_{row['job_id'].hex}",
        )
    try:
        price = price_of(prices, endpoint=submission.endpoint.id, given=submission.given, now=now)
    except Problem as problem:
        return problem
    return Quoted(submission, Holder(row["team_id"], row["user_id"], row["key_id"], submission.end_user), price)

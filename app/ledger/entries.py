"""The ledger's rows: appended here and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from app.db import Plain

SQL_CHARGES: Final = "e.kind IN ('settle', 'overage', 'adjustment')"
"""Whether an entry `e` charges; a hold promises, and a void's amount is what was given back."""

SQL_ENDED: Final = """CROSS JOIN LATERAL (
    SELECT CASE WHEN e.kind IN ('settle', 'void')  -- rows of the release before have no job_status
                THEN coalesce(e.job_status, (SELECT j.status FROM jobs j WHERE j.id = e.job_id)) END AS status
) r"""
"""Joined to entries `e`: `r.status` is how the job of a settle or void ended, NULL of any other."""


def sql_booked_at(moment: str) -> str:
    """The SQL of when an entry is booked: now, or when the books opened again if that month was closed meanwhile.

    Closing a month takes the quotas' lock exclusively, so under that lock, shared, this cannot change any more.
    """
    return f"greatest({moment}, (SELECT b.open_since FROM books b))"  # noqa: S608  ours


_ENTRIES: Final = f"""
INSERT INTO entries (id, job_id, kind, source, amount_usd, seconds, price_id, fal_units, resolves_id, mark, note, by,
                     user_id, team_id, key_id, model, end_user, tags, job_status, booked_at)
SELECT e.id, e.job_id, e.kind, e.source, e.amount_usd, e.seconds, e.price_id, e.fal_units, e.resolves_id, e.mark,
       e.note, e.by, e.user_id, e.team_id, e.key_id, e.model, e.end_user, e.tags::jsonb, e.job_status,
       {sql_booked_at("e.booked_at")}
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::uuid[],
                     $8::numeric[], $9::uuid[], $10::text[], $11::text[], $12::text[], $13::uuid[], $14::uuid[],
                     $15::uuid[], $16::text[], $17::text[], $18::text[], $19::text[], $20::timestamptz[])
    AS e (id, job_id, kind, source, amount_usd, seconds, price_id, fal_units, resolves_id, mark, note, by, user_id,
          team_id, key_id, model, end_user, tags, job_status, booked_at)
RETURNING id, booked_at, (SELECT h.booked_at FROM entries h WHERE h.id = entries.resolves_id) AS held_at
"""  # noqa: S608  ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the ledger, its fields in the order of the statement. A hold's id is its job's; `tags` is JSON.

    `job_status`: how the job ended, of a settle or void.
    """

    id: UUID
    job_id: UUID
    kind: str
    source: str
    amount_usd: Decimal
    seconds: Decimal
    price_id: UUID
    fal_units: Decimal | None = None
    resolves_id: UUID | None = None
    mark: str | None = None
    note: str | None = None
    by: str | None = None
    user_id: UUID
    team_id: UUID
    key_id: UUID
    model: str
    end_user: str | None
    tags: str
    job_status: str | None = None
    booked_at: datetime


@dataclass(frozen=True, slots=True)
class Booked:
    """When an entry was booked; and, of a settle or void, when the hold was that it resolves."""

    at: datetime
    held_at: datetime | None


async def write_entries(plain: Plain, rows: Sequence[Entry]) -> dict[UUID, Booked]:
    """Append to the ledger; when each was booked, by id."""
    if not rows:
        return {}
    written = await plain.fetch(_ENTRIES, *([getattr(row, field.name) for row in rows] for field in fields(Entry)))
    return {row["id"]: Booked(row["booked_at"], row["held_at"]) for row in written}

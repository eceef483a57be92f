"""Everything that is known of what a job cost, read by one statement, so that no part of it is older than another."""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.accounts.callers import Caller
from app.catalogue.prices import Price
from app.db import Plain
from app.jobs.reads.reach import sql_visible

_MOST_ATTEMPTS: Final = 100
_IDS: Final = {"id", "job_id", "price_id", "resolves_id", "quota_id"}
_CHARGING: Final = ("settle", "overage", "adjustment")

# Each by an index: jobs, prices, teams, quota_usage and quotas by their keys, entries and attempts by their job,
# fal_bills by the request.
_ENTRIES: Final = """
SELECT e.id, e.job_id, e.kind, e.source, e.amount_usd::text AS amount_usd, trim_scale(e.seconds)::text AS seconds,
       e.price_id, e.fal_units::text AS fal_units, e.resolves_id, e.mark, e.note, e.by, e.booked_at AS created_at
FROM entries e WHERE e.job_id = j.id AND ($2::uuid IS NULL OR e.id < $2) ORDER BY e.id DESC LIMIT $3
"""
_ATTEMPTS: Final = f"""
SELECT a.id, a.sent_at, a.outcome, a.fal_request_id,
       (SELECT sum(b.usd)::text FROM fal_bills b WHERE b.fal_request_id = a.fal_request_id) AS billed_usd
FROM attempts a WHERE a.job_id = j.id ORDER BY a.sent_at DESC, a.id DESC LIMIT {_MOST_ATTEMPTS}
"""  # noqa: S608  ours
_WINDOWS: Final = """
SELECT q.id AS quota_id, q.scope, q.scope_id, q.metric, q."window", q.maximum::text AS maximum, q.deleted_at,
       u.starts_at, u.ends_at
FROM quota_usage u JOIN quotas q ON q.id = u.quota_id WHERE u.id = ANY(j.quota_usage_ids)
ORDER BY array_position('{organization,team,user,key,end_user}', q.scope), q.metric, u.ends_at - u.starts_at, u.id
"""
_SUMS: Final = """
SELECT jsonb_object_agg(s.kind, jsonb_build_array(s.usd::text, s.seconds::text))::text FROM (
    SELECT e.kind, sum(e.amount_usd) AS usd, sum(e.seconds) AS seconds FROM entries e WHERE e.job_id = j.id GROUP BY 1
) s
"""
_RESOLVING: Final = """
SELECT row_to_json(r)::text FROM (
    SELECT e.kind, e.note, e.fal_units::text AS fal_units FROM entries e
    WHERE e.job_id = j.id AND e.resolves_id IS NOT NULL
) r
"""
_BILLED: Final = """
SELECT sum(b.usd) FROM attempts a JOIN fal_bills b ON b.fal_request_id = a.fal_request_id WHERE a.job_id = j.id
"""


def _listed(select: str) -> str:
    return f"(SELECT coalesce(json_agg(r), '[]')::text FROM ({select}) r)"  # noqa: S608  ours


def _sql(visible: str) -> str:
    return f"""
SELECT j.id, j.status, j.model, j.endpoint, j.seconds, j.quoted_usd, j.held_usd, j.charged_usd, j.fal_request_id,
       j.user_id, j.team_id, j.key_id, j.created_at, j.finished_at, j.payload_erased_at, j.price_id,
       p."when"::text AS "when",
       p.base_seconds, p.base_usd, p.usd_per_second, p.starts_at, t.name AS team, t.archived_at AS team_archived_at,
       {_listed(_ENTRIES)} AS entries, {_listed(_ATTEMPTS)} AS attempts, {_listed(_WINDOWS)} AS windows,
       ({_SUMS}) AS sums, ({_RESOLVING}) AS resolving, ({_BILLED}) AS billed_usd
FROM jobs j LEFT JOIN prices p ON p.id = j.price_id JOIN teams t ON t.id = j.team_id
WHERE j.id = $1 AND {visible}
"""  # noqa: S608  ours


_ANYBODYS: Final = _sql("true")
_THEIRS: Final = _sql(sql_visible(user="$4", role="$5", team="$6"))


@dataclass(frozen=True, slots=True)
class JobRows:
    """What is known of one job. `entries` are a page of them, newest first.

    They, `attempts` and `windows` are as JSON has them, figures in texts, but with real ids. `sums` are dollars and
    seconds by kind of entry, of all; `resolving` is the settle or void, if there is one.
    """

    job: Any
    price: Price | None
    entries: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    windows: list[dict[str, Any]]
    sums: dict[str, tuple[Decimal, Decimal]]
    resolving: dict[str, Any] | None

    @property
    def is_ended(self) -> bool:
        """Whether what it held has been given back."""
        finished_at: datetime | None = self.job["finished_at"]
        return finished_at is not None

    def used(self, part: int) -> Decimal:
        """Of all that charges: dollars (0) or seconds (1)."""
        return sum((self.sums[kind][part] for kind in _CHARGING if kind in self.sums), Decimal(0))


async def read_rows(
    plain: Plain, job_id: UUID, *, caller: Caller | None, limit: int, after: UUID | None
) -> JobRows | None:
    """None for a job that is not there, or not the caller's to see; without a caller, every job is."""
    if caller is None:
        row = await plain.fetchrow(_ANYBODYS, job_id, after, limit)
    else:
        row = await plain.fetchrow(_THEIRS, job_id, after, limit, caller.user_id, caller.role, caller.team_id)
    if row is None:
        return None
    sums = json.loads(row["sums"] or "{}")
    return JobRows(
        job=row,
        price=_price(row),
        entries=_read_listed(row["entries"]),
        attempts=_read_listed(row["attempts"]),
        windows=_read_listed(row["windows"]),
        sums={kind: (Decimal(usd), Decimal(seconds)) for kind, (usd, seconds) in sums.items()},
        resolving=json.loads(row["resolving"]) if row["resolving"] else None,
    )


def _read_listed(text: str) -> list[dict[str, Any]]:
    return [
        {name: UUID(value) if name in _IDS and value else value for name, value in row.items()}
        for row in json.loads(text)
    ]


def _price(row: Any) -> Price | None:
    if row["starts_at"] is None:
        return None
    return Price(
        id=row["price_id"],
        endpoint=row["endpoint"],
        when=json.loads(row["when"]),
        base_seconds=row["base_seconds"],
        base_usd=row["base_usd"],
        usd_per_second=row["usd_per_second"],
        starts_at=row["starts_at"],
    )

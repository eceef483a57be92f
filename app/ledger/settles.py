"""Giving holds back: settled by what fal billed, or voided; and what is booked beside a hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from app.db import Plain
from app.ids import new_id
from app.ledger.entries import Booked, Entry, write_entries
from app.ledger.spend import Spent, raise_spend
from app.ledger.windows import local_date
from app.money import ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A job's hold, and for whom it was placed: what every later entry of the job repeats."""

    job_id: UUID
    quota_usage_ids: Sequence[UUID]
    usd: Decimal
    seconds: Decimal
    price_id: UUID
    user_id: UUID
    team_id: UUID
    key_id: UUID
    model: str
    end_user: str | None
    tags: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What becomes of a hold: settled at `usd`, or voided when that is zero.

    `mark`: `differs` when fal billed other units than quoted, `unstated` when it did not say what it billed.
    """

    usd: Decimal
    fal_units: Decimal | None = None
    mark: str | None = None
    note: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """Money of a job beside its hold: `overage` of a stray fal request, or an `adjustment`."""

    kind: str
    source: str
    usd: Decimal
    seconds: Decimal
    fal_units: Decimal | None = None
    note: str
    by: str | None = None


_LOCK: Final = """
SELECT u.id, q.metric FROM quota_usage u JOIN quotas q ON q.id = u.quota_id
WHERE u.id = ANY($1) ORDER BY u.id FOR UPDATE OF u
"""
_MOVE: Final = """
UPDATE quota_usage u SET used = u.used + m.used, held = u.held - m.held
FROM unnest($1::uuid[], $2::numeric[], $3::numeric[]) AS m (id, used, held) WHERE u.id = m.id
"""
Metrics = Mapping[UUID, str]


async def lock_windows(plain: Plain, usage_ids: set[UUID]) -> Metrics:
    """Lock these windows in the order of their ids; quotas must be kept still. Their metrics, by id."""
    rows = await plain.fetch(_LOCK, sorted(usage_ids)) if usage_ids else []
    return {row["id"]: row["metric"] for row in rows}


async def resolve_holds(
    plain: Plain, resolved: Sequence[tuple[Held, Charge, str]], *, windows: Metrics, now: datetime, zone: ZoneInfo
) -> None:
    """Settle or void each hold: windows, entries and spend. The text is the status that its job ended in.

    `windows` are those that `lock_windows` locked.
    """
    moves: dict[UUID, list[Decimal]] = {}
    rows: list[Entry] = []
    for held, charge, job_status in resolved:
        charged_seconds = held.seconds if charge.usd else ZERO
        for usage_id in held.quota_usage_ids:
            used, given_back = _moved(windows[usage_id], held, charge, charged_seconds)
            move = moves.setdefault(usage_id, [ZERO, ZERO])
            move[0] += used
            move[1] += given_back
        rows.append(_resolving_entry(held, charge, charged_seconds, job_status, now))
    await _write(plain, moves, rows, zone=zone)


async def book_extra(
    plain: Plain, held: Held, extra: Extra, *, windows: Metrics, now: datetime, zone: ZoneInfo
) -> None:
    """Book money of a job beside its hold; its windows count it as used. A repeat violates a UNIQUE constraint."""
    moves = {
        usage_id: [extra.usd if windows[usage_id] == "usd" else extra.seconds, ZERO]
        for usage_id in held.quota_usage_ids
        if windows[usage_id] in {"usd", "seconds"}
    }
    row = _entry(
        held,
        id_=new_id(now),
        kind=extra.kind,
        source=extra.source,
        usd=extra.usd,
        seconds=extra.seconds,
        now=now,
        fal_units=extra.fal_units,
        note=extra.note,
        by=extra.by,
    )
    await _write(plain, moves, [row], zone=zone)


def _moved(metric: str, held: Held, charge: Charge, charged_seconds: Decimal) -> tuple[Decimal, Decimal]:
    """What a window of this metric counts as used from now on, and what it no longer holds."""
    match metric:
        case "usd":
            return charge.usd, held.usd
        case "seconds":
            return charged_seconds, held.seconds
        case "in_flight":
            return ZERO, Decimal(1)
        case _:
            return ZERO, ZERO


def _resolving_entry(held: Held, charge: Charge, charged_seconds: Decimal, job_status: str, now: datetime) -> Entry:
    settles = bool(charge.usd)
    return _entry(
        held,
        id_=new_id(now),
        kind="settle" if settles else "void",
        source=held.job_id.hex,
        usd=charge.usd if settles else held.usd,
        seconds=charged_seconds if settles else held.seconds,
        now=now,
        fal_units=charge.fal_units,
        resolves_id=held.job_id,
        mark=charge.mark,
        note=charge.note,
        by=charge.by,
        job_status=job_status,
    )


def _entry(
    held: Held,
    *,
    id_: UUID,
    kind: str,
    source: str,
    usd: Decimal,
    seconds: Decimal,
    now: datetime,
    fal_units: Decimal | None = None,
    resolves_id: UUID | None = None,
    mark: str | None = None,
    note: str | None = None,
    by: str | None = None,
    job_status: str | None = None,
) -> Entry:
    return Entry(
        id=id_,
        job_id=held.job_id,
        kind=kind,
        source=source,
        amount_usd=usd,
        seconds=seconds,
        price_id=held.price_id,
        fal_units=fal_units,
        resolves_id=resolves_id,
        mark=mark,
        note=note,
        by=by,
        user_id=held.user_id,
        team_id=held.team_id,
        key_id=held.key_id,
        model=held.model,
        end_user=held.end_user,
        tags=held.tags,
        job_status=job_status,
        booked_at=now,
    )


async def _write(
    plain: Plain, moves: Mapping[UUID, Sequence[Decimal]], rows: Sequence[Entry], *, zone: ZoneInfo
) -> None:
    if moves:
        await plain.execute(
            _MOVE, list(moves), [used for used, _ in moves.values()], [held for _, held in moves.values()]
        )
    booked = await write_entries(plain, rows)
    await raise_spend(plain, [spent for row in rows for spent in _spent(row, booked[row.id], zone)])


def _spent(row: Entry, booked: Booked, zone: ZoneInfo) -> list[Spent]:
    """What an entry adds to the day it was booked on, and a job's end to the day of its hold."""
    is_void = row.kind == "void"
    on_its_day = _on(
        local_date(booked.at, zone),
        row,
        usd=ZERO if is_void else row.amount_usd,
        seconds=ZERO if is_void else row.seconds,
        ended=row.job_status,
    )
    if booked.held_at is None:
        return [on_its_day]
    return [on_its_day, _on(local_date(booked.held_at, zone), row, jobs=1)]


def _on(
    day: date, row: Entry, *, usd: Decimal = ZERO, seconds: Decimal = ZERO, jobs: int = 0, ended: str | None = None
) -> Spent:
    return Spent(
        day=day,
        team_id=row.team_id,
        user_id=row.user_id,
        key_id=row.key_id,
        model=row.model,
        charged_usd=usd,
        seconds=seconds,
        jobs=jobs,
        succeeded=int(ended == "succeeded"),
        failed=int(ended == "failed"),
        canceled=int(ended == "canceled"),
    )

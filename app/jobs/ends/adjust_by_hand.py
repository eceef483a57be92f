"""Finance corrects what a job was charged, and says why."""

from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.catalogue.fields import NO_NUL
from app.db import Plain, Tx, plain_of
from app.http import Body
from app.ids import new_id, show
from app.jobs.ends.adjust import Adjustment, EndedJob, adjust_job, lock_ended_job
from app.jobs.rooms import Rooms
from app.jobs.submits.quotes import IdempotencyKeyReused
from app.ledger.entries import SQL_CHARGES
from app.ledger.months.closing import bounds_of, require_open
from app.ledger.months.shapes import MonthText
from app.ledger.shapes import Entry
from app.ledger.windows import local_date
from app.money import ZERO, Amount, decimal_text
from app.problems import InvalidInput

_MOST: Final = 1_000_000
_BEFORE_ITS_END: Final = timedelta(microseconds=1)
_ENTRY: Final = """
SELECT id, job_id, kind, amount_usd, seconds, price_id, fal_units, resolves_id, note, by, booked_at AS created_at
FROM entries WHERE job_id = $1 AND kind = 'adjustment' AND source = $2
"""
_CHARGED: Final = f"""
SELECT max(e.booked_at) FILTER (WHERE e.resolves_id IS NOT NULL) AS ended_at,
       coalesce(sum(e.seconds) FILTER (WHERE {SQL_CHARGES}), 0) AS seconds
FROM entries e WHERE e.job_id = $1
"""  # noqa: S608  ours


def _sane(amount: Decimal) -> Decimal:
    if abs(amount) > _MOST:
        raise ValueError(f"must lie between -{_MOST} and {_MOST}")
    return amount


def _not_zero(amount: Decimal) -> Decimal:
    if not amount:
        raise ValueError("must not be zero")
    return amount


class AdjustmentBody(Body):
    """What is added to the charge of a job that has ended; negative: given back."""

    amount_usd: Annotated[Amount, AfterValidator(_not_zero), AfterValidator(_sane)]
    seconds: Annotated[Amount, AfterValidator(_sane)] = ZERO
    note: Annotated[str, Field(min_length=1, max_length=1000, description="Why."), NO_NUL]
    month: Annotated[
        MonthText | None, Field(description="The month to book it in, if that is still open; left out: now.")
    ] = None


class Made(NamedTuple):
    """The entry, and whether it had been made before under the same Idempotency-Key."""

    entry: Entry
    is_repeated: bool


async def create_adjustment(
    rooms: Rooms, actor: Actor, job_id: UUID, body: AdjustmentBody, *, idempotency_key: str | None
) -> Made:
    """Book it: the job's charge and version follow, and `used` of the windows it was held in.

    Raises NotFound, JobNotEnded, IdempotencyKeyReused; MonthClosed for a month that takes nothing any more;
    InvalidInput where less than nothing would be charged, or in a month before the job's own.
    """
    now, zone = rooms.wiring.clock(), rooms.wiring.settings.zone
    source = f"hand:{new_id(now).hex}" if idempotency_key is None else _keyed(idempotency_key, actor)
    async with rooms.wiring.db.begin() as tx:
        plain = await plain_of(tx)
        job = await lock_ended_job(plain, job_id)
        if (row := await plain.fetchrow(_ENTRY, job_id, source)) is not None:
            return Made(_repeated(row, body, zone), is_repeated=True)
        booked_at = await _require_possible(plain, job, body, now=now, zone=zone)
        adjustment = Adjustment(source=source, usd=body.amount_usd, seconds=body.seconds, note=body.note, by=actor.name)
        await adjust_job(plain, job, adjustment, now=booked_at, zone=zone)
        made: Any = await plain.fetchrow(_ENTRY, job_id, source)
        entry = Entry.model_validate(dict(made))
        await _log(tx, actor, job, entry, now=now)
    rooms.hub.announce([job_id])
    return Made(entry, is_repeated=False)


def _keyed(idempotency_key: str, actor: Actor) -> str:
    """A key belongs to whoever sends it; whose job it is sees this source, but not the key."""
    owner = actor.name if actor.caller is None else actor.caller.user_id.hex
    return f"key:{sha256(f'{owner} {idempotency_key}'.encode()).hexdigest()}"


def _repeated(row: Any, body: AdjustmentBody, zone: ZoneInfo) -> Entry:
    entry = Entry.model_validate(dict(row))
    was = (row["amount_usd"], row["seconds"], row["note"], local_date(row["created_at"], zone).replace(day=1))
    if was != (body.amount_usd, body.seconds, body.note, body.month or was[3]):
        raise IdempotencyKeyReused(
            "Use another Idempotency-Key: this one belongs to another adjustment of this job.",
            job_id=show("job", row["job_id"]),
        )
    return entry


async def _require_possible(
    plain: Plain, job: EndedJob, body: AdjustmentBody, *, now: datetime, zone: ZoneInfo
) -> datetime:
    """The moment to book it at. Raises InvalidInput and MonthClosed."""
    charged: Any = await plain.fetchrow(_CHARGED, job.held.job_id)
    faults = []
    if job.charged_usd + body.amount_usd < 0:
        most = decimal_text(job.charged_usd)
        faults.append({"pointer": "/amount_usd", "detail": f"the job is charged {most}: no more can be given back"})
    if charged["seconds"] + body.seconds < 0:
        most = decimal_text(charged["seconds"])
        faults.append({"pointer": "/seconds", "detail": f"the job is charged {most} s: no more can be given back"})
    if body.month is not None:
        starts_at, ends_at = bounds_of(body.month, zone)
        if starts_at > now:
            faults.append({"pointer": "/month", "detail": "this month has not begun"})
        elif ends_at <= charged["ended_at"]:
            faults.append({"pointer": "/month", "detail": "the job was charged after this month"})
    if faults:
        raise InvalidInput(faults)
    if body.month is None:
        return now
    await require_open(plain, body.month, zone=zone)
    return min(now, ends_at - _BEFORE_ITS_END)


async def _log(tx: Tx, actor: Actor, job: EndedJob, entry: Entry, *, now: datetime) -> None:
    await audit_log.write(
        tx,
        actor=actor,
        action="job.adjusted",
        object_id=show("job", job.held.job_id),
        before={"charged_usd": decimal_text(job.charged_usd)},
        after={
            "charged_usd": decimal_text(job.charged_usd + entry.amount_usd),
            "entry_id": show("entry", entry.id),
            "note": entry.note,
        },
        now=now,
    )

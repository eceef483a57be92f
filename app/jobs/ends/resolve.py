"""An admin says what became of a job that nobody knows about: charged, or not."""

from decimal import Decimal
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from app.accounts import audit_log
from app.accounts.callers import Actor
from app.catalogue.fields import NO_NUL
from app.db import plain_of
from app.http import Body
from app.ids import show
from app.jobs.ends.cancel import JobEnded
from app.jobs.ends.causes import error_json
from app.jobs.ends.ending import Ending, end_jobs
from app.jobs.reads.reach import NOT_FOUND_DETAIL
from app.jobs.reads.wire import JOB_JSON
from app.jobs.rooms import Rooms
from app.jobs.states import ENDED, UNCONFIRMED
from app.ledger.settles import Charge, Held
from app.ledger.shapes import Dollars
from app.money import decimal_text
from app.problems import InvalidInput, NotFound, Problem

# Voided, yet fal has it: it is cancelled there, and what it bills all the same is booked.
_STRAY: Final = "UPDATE attempts SET stray_check_at = now() WHERE id = $1 AND fal_request_id IS NOT NULL"


class JobNotUnconfirmed(Problem):
    """Only an `unconfirmed` job can be resolved by hand; this one is still being followed.

    Wait for its end, or cancel it.
    """

    status = 409


class Resolution(Body):
    """What became of the job: `charge` it (at `amount_usd`, or at what is held), or `void` the promise."""

    outcome: Literal["charge", "void"]
    amount_usd: Annotated[Dollars | None, Field(description="Only with `charge`; default: what is held.")] = None
    note: Annotated[str, Field(min_length=1, max_length=1000, description="Why."), NO_NUL]


async def resolve_job(rooms: Rooms, actor: Actor, job_id: UUID, resolution: Resolution) -> str:
    """End it as `failed`, error `unconfirmed`; the Job as JSON. Raises NotFound, JobEnded, JobNotUnconfirmed."""
    if resolution.amount_usd is not None and resolution.outcome == "void":
        raise InvalidInput([{"pointer": "/amount_usd", "detail": "goes with charge only"}])
    now = rooms.wiring.clock()
    async with rooms.wiring.db.begin() as tx:
        plain = await plain_of(tx)
        row = await plain.fetchrow("SELECT status, attempt_id FROM jobs WHERE id = $1", job_id)
        if row is None:
            raise NotFound(NOT_FOUND_DETAIL)
        ending = _ending(job_id, row["attempt_id"], resolution, actor)
        ended = await end_jobs(plain, [ending], wiring=rooms.wiring, now=now)
        if not ended:
            if row["status"] in ENDED:
                raise JobEnded(f"The job has {row['status']}; there is nothing left to resolve.")
            raise JobNotUnconfirmed("The job is still being followed; wait for its end or cancel it.")
        await audit_log.write(
            tx,
            actor=actor,
            action="job.resolved",
            object_id=show("job", job_id),
            before={"status": "unconfirmed"},
            after={
                "status": "failed",
                "outcome": resolution.outcome,
                "charged_usd": decimal_text(ended[job_id].charge.usd),
                "note": resolution.note,
            },
            now=now,
        )
        if resolution.outcome == "void":
            await plain.execute(_STRAY, row["attempt_id"])
        body: str = await plain.fetchval(f"SELECT {JOB_JSON} FROM jobs j WHERE j.id = $1", job_id)  # noqa: S608
    rooms.hub.announce([job_id])
    if ended[job_id].has_delivery:
        rooms.sender.loop.wake()
    return body


def _ending(job_id: UUID, attempt_id: UUID | None, resolution: Resolution, actor: Actor) -> Ending:
    def charge(held: Held) -> Charge:
        given = resolution.amount_usd if resolution.amount_usd is not None else held.usd
        usd = given if resolution.outcome == "charge" else Decimal(0)
        return Charge(usd=usd, note=resolution.note, by=actor.name)

    return Ending(
        job_id=job_id,
        was=UNCONFIRMED,
        attempt_id=attempt_id,
        status="failed",
        charge=charge,
        error=error_json(
            code="unconfirmed",
            title="Unconfirmed",
            detail="Nobody could tell whether fal made it; an admin has closed it.",
            retryable=True,
        ),
    )

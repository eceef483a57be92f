"""A caller cancels: at once while queued, otherwise it is remembered and the tracker asks fal."""

from typing import Final
from uuid import UUID

from app.accounts.callers import Caller, RoleForbidden
from app.jobs.charges import void
from app.jobs.ending import Ending, error_json
from app.jobs.read import NOT_FOUND_DETAIL
from app.jobs.rooms import Rooms
from app.jobs.wire import JOB_JSON
from app.problems import NotFound, Problem

_TRIES: Final = 5
_LOOK: Final = f"SELECT j.status, j.user_id, j.team_id, {JOB_JSON} AS body FROM jobs j WHERE j.id = $1"  # noqa: S608
_REMEMBER: Final = f"""
UPDATE jobs j SET version = version + CASE WHEN cancel_requested_at IS NULL THEN 1 ELSE 0 END,
       cancel_requested_at = coalesce(cancel_requested_at, $2),
       next_check_at = CASE WHEN cancel_requested_at IS NULL AND status <> 'submitting'
                                 AND next_check_at IS NOT NULL THEN now() ELSE next_check_at END
WHERE id = $1 AND finished_at IS NULL AND status <> 'queued'
RETURNING {JOB_JSON} AS body
"""  # noqa: S608


class JobEnded(Problem):
    """The job has ended, so it can no longer be cancelled or resolved.

    `GET /v1/jobs/{id}` shows how it ended and what it cost.
    """

    status = 409


async def cancel_job(rooms: Rooms, caller: Caller, job_id: UUID) -> tuple[int, str]:
    """The HTTP status and the Job: 200 when it is canceled, 202 when that was asked of fal.

    Raises NotFound, RoleForbidden (finance reads, it does not cancel) or JobEnded (succeeded or failed).
    """
    for _ in range(_TRIES):
        async with rooms.wiring.db.plain() as plain:
            row = await plain.fetchrow(_LOOK, job_id)
        if row is None or not _may_see(caller, row["user_id"], row["team_id"]):
            raise NotFound(NOT_FOUND_DETAIL)
        if caller.role == "finance" and row["user_id"] != caller.user_id:
            raise RoleForbidden(("lead", "admin"), "Finance reads jobs of all and cancels its own only.")
        if row["status"] == "canceled":
            return 200, row["body"]
        if row["status"] in {"succeeded", "failed"}:
            raise JobEnded(f"The job has {row['status']}; there is nothing left to cancel.", job_status=row["status"])
        if row["status"] == "queued":
            await rooms.endings.end(_canceled(job_id))
            continue
        async with rooms.wiring.db.begin_plain() as plain:
            body = await plain.fetchval(_REMEMBER, job_id, rooms.wiring.clock())
        if body is not None:
            rooms.hub.announce([job_id])
            rooms.tracker.loop.wake()
            return 202, body
    raise JobEnded("The job keeps moving; read it and cancel again.")


def _may_see(caller: Caller, user_id: UUID, team_id: UUID) -> bool:
    return (
        caller.user_id == user_id
        or caller.role in {"finance", "admin"}
        or (caller.role == "lead" and caller.team_id == team_id)
    )


def _canceled(job_id: UUID) -> Ending:
    return Ending(
        job_id=job_id,
        was=frozenset({"queued"}),
        attempt_id=None,
        status="canceled",
        charge=void("cancelled while queued"),
        error=error_json(
            code="canceled", title="Canceled", detail="It was cancelled before fal had it.", retryable=False
        ),
    )

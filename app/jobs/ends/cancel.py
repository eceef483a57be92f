"""A caller cancels: at once while queued, otherwise it is remembered and the tracker asks fal."""

from typing import Final
from uuid import UUID

from app.accounts.callers import Caller, RoleForbidden, acting
from app.db import CommitUnknown, is_database_away
from app.jobs.ends import causes
from app.jobs.reads.reach import NOT_FOUND_DETAIL, sql_visible
from app.jobs.reads.wire import JOB_JSON
from app.jobs.rooms import Rooms
from app.problems import NotFound, Problem, Unavailable
from app.tokens import Grant

_TRIES: Final = 5
_LOOK: Final = f"""
SELECT j.status, j.user_id, j.end_user, {JOB_JSON} AS body FROM jobs j
WHERE j.id = $1 AND {sql_visible(user="$2", role="$3", team="$4")}
"""  # noqa: S608  ours
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


async def cancel_job(rooms: Rooms, caller: Caller, job_id: UUID, grant: Grant | None = None) -> tuple[int, str]:
    """The HTTP status and the Job: 200 when it is canceled, 202 when that was asked of fal.

    Raises NotFound, RoleForbidden (finance reads, it does not cancel) JobEnded (succeeded or
    failed), CommitUnknown or Unavailable.
    """
    unknown: CommitUnknown | None = None
    for _ in range(_TRIES):
        try:
            done = await _try_to_cancel(rooms, caller, job_id, grant)
        except CommitUnknown as lost:
            unknown = lost  # the next try looks what became of it
            continue
        except Exception as error:
            if unknown is not None and is_database_away(error):
                raise unknown from error
            raise
        if done is not None:
            return done
    raise unknown or Unavailable("The job keeps moving just now. Send the same request again in a moment.")


async def _try_to_cancel(rooms: Rooms, caller: Caller, job_id: UUID, grant: Grant | None) -> tuple[int, str] | None:
    """None: it has moved meanwhile, so look again."""
    async with rooms.wiring.db.plain() as plain:
        row = await plain.fetchrow(_LOOK, job_id, caller.user_id, caller.role, caller.team_id)
    is_own = row is not None and row["user_id"] == caller.user_id
    if row is None or (grant and not grant.shows(job_id, is_own=is_own, end_user=row["end_user"])):
        raise NotFound(NOT_FOUND_DETAIL)
    if caller.role == "finance" and not is_own:
        raise RoleForbidden(("lead", "admin"), "Finance reads jobs of all and cancels its own only.")
    if row["status"] == "canceled":
        return 200, row["body"]
    if row["status"] in {"succeeded", "failed"}:
        raise JobEnded(f"The job has {row['status']}; there is nothing left to cancel.", job_status=row["status"])
    if row["status"] == "queued":
        await rooms.endings.end(causes.canceled_while_queued(job_id, by=acting(caller).name))
        return None
    async with rooms.wiring.db.begin_plain() as plain:
        body = await plain.fetchval(_REMEMBER, job_id, rooms.wiring.clock())
    if body is None:
        return None
    rooms.hub.announce([job_id])
    rooms.tracker.loop.wake()
    return 202, body

"""A caller has one job's payload erased, before PAYLOAD_DAYS would."""

from typing import Final
from uuid import UUID

from app.accounts import audit_log
from app.accounts.callers import Caller, RoleForbidden, acting
from app.db import plain_of
from app.ids import show
from app.jobs.ends.adjust import JobNotEnded
from app.jobs.forgetting.forget import forget_jobs
from app.jobs.reads.reach import NOT_FOUND_DETAIL, sql_visible
from app.jobs.rooms import Rooms
from app.outputs import archive
from app.problems import NotFound

_LOOK: Final = f"""
SELECT j.user_id, j.status, j.finished_at IS NOT NULL AS has_ended, j.payload_erased_at IS NOT NULL AS is_erased
FROM jobs j WHERE j.id = $1 AND {sql_visible(user="$2", role="$3", team="$4")}
"""  # noqa: S608  ours


async def erase_payload(rooms: Rooms, caller: Caller, job_id: UUID) -> None:
    """Erase it, with a line in the audit log; nothing if it is erased already.

    Raises NotFound, RoleForbidden (finance reads jobs of all, it erases its own only) or JobNotEnded.
    """
    wiring = rooms.wiring
    async with wiring.db.plain() as plain:
        row = await plain.fetchrow(_LOOK, job_id, caller.user_id, caller.role, caller.team_id)
    if row is None:
        raise NotFound(NOT_FOUND_DETAIL)
    if caller.role == "finance" and row["user_id"] != caller.user_id:
        raise RoleForbidden(("lead", "admin"), "Finance reads jobs of all and erases its own only.")
    if not row["has_ended"]:
        raise JobNotEnded(f"The job is {row['status']}: wait for its end or cancel it.", job_status=row["status"])
    if row["is_erased"]:
        return
    now = wiring.clock()
    async with wiring.db.begin() as tx:
        if not await forget_jobs(await plain_of(tx), [job_id], wiring=wiring, now=now):
            return
        await audit_log.write(
            tx,
            actor=acting(caller),
            action="job.payload_erased",
            object_id=show("job", job_id),
            before=None,
            after={"payload_erased_at": now},
            now=now,
        )
    await archive.erase(wiring, [job_id])
    rooms.fal_copies.loop.wake()

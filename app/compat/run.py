"""`fal.run` without fal.run: a direct call is a job like any other, waited for as long as its caller stays."""

import asyncio
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from app import logs
from app.accounts.access import credential_of
from app.accounts.callers import Credential
from app.compat.about import answer_result
from app.compat.errors import ONCE
from app.compat.line import Line
from app.compat.paths import RequestCall
from app.compat.repeats import HeardResponse, Told
from app.compat.submit import read_call, repeats_of
from app.ids import show
from app.jobs.reads.wait import wait_until_ended
from app.jobs.rooms import Rooms, rooms_of
from app.problems import Problem, Unavailable

_SPARE_SECONDS: Final = 60.0  # for what comes before and after the waiting


class RunTooLong(Problem):
    """A direct call (`fal.run`) was waited for as long as any job may take, and the job has not ended.

    It goes on, and is charged as ever: `GET /v1/jobs/{id}` tells how it stands. The same call again waits for
    the same job, until 25 minutes after its end. Submit to the queue what takes long.
    """

    status = 504


async def answer_run(request: Request, endpoint: str) -> Response:
    """`POST {endpoint}` at fal.run: the same job as by the queue, and the answer is its result, once it has ended.

    When the caller hangs up the job goes on. Takes a seat of the key's.
    """
    rooms = rooms_of(request)
    credential = credential_of(request, rooms.wiring)
    with rooms.seats.taken(credential):
        submission = await read_call(request, endpoint)
        line = Line(request)
        try:
            told = await repeats_of(request).submit(submission, line, waits=True)
            try:
                logs.job_id.set(show("job", told.job_id))
                response = await _answer(request, rooms, credential, told, line, submission.endpoint.id)
            except BaseException:
                await told.remember()
                told.release()
                raise
        except BaseException:
            line.close()
            raise
    return HeardResponse(response, told, line)


async def _answer(
    request: Request, rooms: Rooms, credential: Credential, told: Told, line: Line, endpoint: str
) -> Response:
    """The job's result. Its caller is here, and so an equal call meanwhile is not this one again."""
    told.release()
    await _wait(request, rooms, credential, told.job_id, line)
    response = await answer_result(request, RequestCall(endpoint, told.job_id, "result"), credential)
    response.status_code = ONCE.get(response.status_code, response.status_code)  # or Python would buy it ten times
    return response


async def _wait(request: Request, rooms: Rooms, credential: Credential, job_id: UUID, line: Line) -> None:
    settings = rooms.wiring.settings
    seconds = settings.start_seconds + settings.job_deadline_seconds
    request.scope["is_waiting"] = True  # as long as its job: no figure of how quick we are
    request.scope["patience"].last(seconds + _SPARE_SECONDS)
    waiting = asyncio.create_task(wait_until_ended(rooms, credential, job_id, seconds=seconds))
    await line.wait(waiting)
    if waiting.result().is_ended:
        return
    if rooms.stopping.is_set():
        raise Unavailable("The gateway is being restarted. The same call again waits for the same job.")
    raise RunTooLong(
        f"{show('job', job_id)} has not ended; GET /v1/jobs/{show('job', job_id)} tells how it stands.",
        headers={"X-Fal-Request-Timeout-Type": "user"},  # which no client repeats (FAL.md 4.1, 4.2)
    )

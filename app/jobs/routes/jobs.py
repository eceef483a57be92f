"""The jobs' routes: what is asked of a job over HTTP, and nothing else."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import logs
from app.accounts.access import Admin, Admitting, Calling, Refused, credential_of, read_for_known, require_caller
from app.accounts.callers import Credential
from app.catalogue.endpoint import Category
from app.http import JsonRoute, PlainRoute, json_response
from app.ids import parse, show
from app.jobs.ends.cancel import cancel_job
from app.jobs.ends.resolve import Resolution, resolve_job
from app.jobs.forgetting.erase import erase_payload
from app.jobs.reads.listing import JobFilter, list_jobs
from app.jobs.reads.reach import NOT_FOUND_DETAIL
from app.jobs.reads.read import Seen
from app.jobs.reads.seats import SeatedResponse
from app.jobs.reads.wait import asked_now, stream_events, wait_until_ended
from app.jobs.rooms import InRooms, Rooms, rooms_of
from app.jobs.routes.schema import (
    ESTIMATE,
    ESTIMATED,
    FILTERS,
    JOB_ID,
    KEY_OR_TOKEN,
    LAST_EVENT_ID,
    LISTED,
    STREAMED,
    SUBMIT,
    TOKEN_IN_QUERY,
    WAIT,
    answers_job,
)
from app.jobs.submits.accept import Accepted
from app.jobs.submits.estimate import estimate
from app.jobs.submits.request import Submission, read_submission, read_wait
from app.problems import InvalidInput, NotFound, responses
from app.wiring import Wired

plain = APIRouter(route_class=PlainRoute, tags=["jobs"])
router = APIRouter(route_class=JsonRoute, tags=["jobs"])


async def _submission(
    request: Request, rooms: Rooms, category: Category, credential: Credential, *, refused: Refused | None = None
) -> Submission:
    return await read_for_known(
        request,
        rooms.wiring,
        credential,
        lambda: read_submission(
            request,
            category,
            secret_hash=credential.secret_hash,
            grant=credential.grant,
            catalogue=rooms.wiring.catalogue,
            settings=rooms.wiring.settings,
        ),
        refused=refused,
    )


async def _answer_submit(request: Request, rooms: Rooms, credential: Credential, submission: Submission) -> Response:
    """A new job at once; one that is waited for, or was there before, by its end or when the wait is over."""
    outcome = await rooms.submits.submit(submission)
    logs.job_id.set(show("job", outcome.job_id))
    headers = {
        "Location": f"/v1/jobs/job_{outcome.job_id.hex}",
        "Retry-After": str(max(1, round(rooms.wiring.settings.poll_seconds))),
    }
    if isinstance(outcome, Accepted) and submission.wait_seconds is None:
        return json_response(outcome.body, status=202, headers=headers)
    if not isinstance(outcome, Accepted):
        headers["Idempotent-Replayed"] = "true"
    seconds = submission.wait_seconds or 0
    if seconds:
        _waits(request)
    seen = await wait_until_ended(rooms, credential, outcome.job_id, seconds=seconds)
    if not seen.is_ended:
        return json_response(seen.body, status=202, headers=headers)
    del headers["Retry-After"]
    if seconds:
        headers |= _applied(seen, seconds)
    return json_response(seen.body, headers=headers)


def _submit_route(category: Category) -> None:
    async def submit(request: Request) -> Response:
        rooms = rooms_of(request)
        credential = credential_of(request, rooms.wiring)
        credential.require_submit()
        submission = await _submission(request, rooms, category, credential, refused=rooms.refusals.count_caller)
        if submission.wait_seconds is None:
            return await _answer_submit(request, rooms, credential, submission)
        with rooms.seats.taken(credential):
            return await _answer_submit(request, rooms, credential, submission)

    async def estimate_cost(request: Request) -> dict[str, Any]:
        rooms = rooms_of(request)
        credential = credential_of(request, rooms.wiring)
        credential.require_submit()
        submission = await _submission(request, rooms, category, credential)
        return await estimate(rooms.wiring, submission)

    noun = category.replace("-", "_")
    plain.add_api_route(
        f"/v1/{category}",
        submit,
        methods=["POST"],
        status_code=202,
        operation_id=f"submit_{noun}",
        summary=f"Ask for a video ({category})",
        description=SUBMIT,
        responses=answers_job({202: "Accepted.", 200: "It ended while you waited, or had ended before."})
        | responses(401, 402, 403, 413, 415, 422, 429, 503),
        openapi_extra={"x-category": category, "security": KEY_OR_TOKEN},
    )
    router.add_api_route(
        f"/v1/{category}/estimate",
        estimate_cost,
        methods=["POST"],
        operation_id=f"estimate_{noun}",
        summary=f"What it would cost ({category})",
        description=ESTIMATE,
        responses=ESTIMATED | responses(401, 403, 413, 415, 422, 503),
        openapi_extra={"x-category": category, "security": KEY_OR_TOKEN},
    )


_submit_route("text-to-video")
_submit_route("image-to-video")


@plain.get(
    "/v1/jobs/{id}",  # noqa: FAST003  a plain route reads its own path
    operation_id="get_job",
    summary="Read a job",
    responses=answers_job({200: "The job."}) | responses(401, 403, 404, 422, 429, 503),
    openapi_extra={"parameters": [JOB_ID, WAIT], "security": KEY_OR_TOKEN},
)
async def get_job(request: Request) -> Response:
    """The job as it is now; with `Prefer: wait=N`, when it has ended or after N seconds."""
    rooms = rooms_of(request)
    job_id = _about(parse("job", request.path_params["id"]))
    credential = credential_of(request, rooms.wiring, job_id=job_id)
    if "prefer" in request.headers:
        return await _get_waiting(request, rooms, credential, job_id)
    seen = await rooms.reader.read(asked_now(rooms, credential, job_id))
    return json_response(seen.body)


async def _get_waiting(request: Request, rooms: Rooms, credential: Credential, job_id: UUID | None) -> Response:
    faults: list[dict[str, str]] = []
    wait_seconds = read_wait(request, faults)
    if faults:
        await require_caller(request, rooms.wiring, credential.secret_hash)
        raise InvalidInput(faults)
    if wait_seconds is None or job_id is None:
        return json_response((await rooms.reader.read(asked_now(rooms, credential, job_id))).body)
    _waits(request)
    with rooms.seats.taken(credential):
        seen = await wait_until_ended(rooms, credential, job_id, seconds=wait_seconds)
    return json_response(seen.body, headers=_applied(seen, wait_seconds))


def _waits(request: Request) -> None:
    """It takes as long as its caller wants: no figure of how quick we are."""
    request.scope["is_waiting"] = True


def _applied(seen: Seen, wait_seconds: int) -> dict[str, str]:
    return {"Preference-Applied": f"wait={wait_seconds}"} if seen.is_ended else {}


@plain.get(
    "/v1/jobs/{id}/events",  # noqa: FAST003
    operation_id="stream_job_events",
    summary="Follow a job",
    responses=STREAMED | responses(401, 403, 404, 422, 429, 503),
    openapi_extra={"parameters": [JOB_ID, LAST_EVENT_ID, TOKEN_IN_QUERY], "security": KEY_OR_TOKEN},
)
async def get_events(request: Request) -> Response:
    """The job at once, then at each change, and what its model writes; closed after its end.

    A comment every 15 s keeps the stream open.
    """
    rooms = rooms_of(request)
    job_id = _about(parse("job", request.path_params["id"]))
    credential = credential_of(request, rooms.wiring, job_id=job_id, in_query=True)
    seen = await rooms.reader.read(asked_now(rooms, credential, job_id))
    if job_id is None:
        raise NotFound(NOT_FOUND_DETAIL)
    if seen.is_ended and request.headers.get("last-event-id") == str(seen.version):
        return Response(status_code=204)
    events = stream_events(rooms, credential, job_id, seen)
    headers = {"X-Accel-Buffering": "no"}
    return SeatedResponse(events, seats=rooms.seats, credential=credential, headers=headers)


@plain.post("/webhooks/fal/{attempt}", include_in_schema=False)  # noqa: FAST003
async def receive_webhook(request: Request) -> Response:
    """For fal alone; the path is a secret between fal and us."""
    receiver = rooms_of(request).receiver
    await receiver.receive(request.path_params["attempt"], request.scope["headers"], request.body)
    return Response()


@router.get(
    "/v1/jobs",
    operation_id="list_jobs",
    summary="List jobs",
    responses=LISTED | responses(401, 403, 422, 503),
    openapi_extra={"parameters": FILTERS},
)
async def get_jobs(request: Request, who: Admitting, rooms: InRooms, wired: Wired) -> Response:
    """Newest first: your own; for a lead the team's too; for finance and admin all. With a token, what that shows."""
    asked = JobFilter(request.query_params.multi_items())
    link = rooms.links.completing(who.credential, now=wired.clock())
    async with wired.db.plain() as connection:
        return json_response(await list_jobs(connection, who.caller, asked, grant=who.credential.grant, link=link))


@router.post(
    "/v1/jobs/{id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    responses=answers_job({200: "It is canceled.", 202: "fal was asked to cancel it; it may finish all the same."})
    | responses(401, 403, 404, 409, 422, 503),
)
async def post_cancel(id: str, who: Admitting, rooms: InRooms) -> Response:  # noqa: A002  the Contract's name
    """Free while queued; afterwards fal is asked, and it may finish and be charged all the same."""
    who.credential.require_submit()
    status, body = await cancel_job(rooms, who.caller, _job_id(id), who.credential.grant)
    return json_response(body, status=status)


@router.post(
    "/v1/jobs/{id}/resolve",
    operation_id="resolve_job",
    summary="Resolve an unconfirmed job",
    responses=answers_job({200: "The job, ended."}) | responses(401, 403, 404, 409, 413, 415, 422, 503),
)
async def post_resolve(id: str, resolution: Resolution, actor: Admin, rooms: InRooms) -> Response:  # noqa: A002
    """For admins, when nobody can tell what became of a job: `charge` it, at what is held or you say, or `void` it."""
    return json_response(await resolve_job(rooms, actor, _job_id(id), resolution))


@router.delete(
    "/v1/jobs/{id}/payload",
    status_code=204,
    operation_id="erase_job_payload",
    summary="Erase a job's input and output",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def delete_payload(id: str, caller: Calling, rooms: InRooms) -> None:  # noqa: A002
    """For ever, of a job that has ended; its video in the archive too. What it cost stays, and that it was."""
    await erase_payload(rooms, caller, _job_id(id))


def _job_id(text: str) -> UUID:
    job_id = _about(parse("job", text))
    if job_id is None:
        raise NotFound(NOT_FOUND_DETAIL)
    return job_id


def _about(job_id: UUID | None) -> UUID | None:
    """What this request logs is about that job."""
    logs.job_id.set(None if job_id is None else show("job", job_id))
    return job_id

"""Why jobs end: the ending of each cause, and the `error` that tells the caller."""

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from pydantic_core import to_json

from app.fal import CLIENT_CLOSED, Failed, FalError, Succeeded
from app.ids import first_id
from app.jobs.at_fal.claims import Claimed, Followed
from app.jobs.at_fal.replies import failure_reply, success_reply
from app.jobs.ends.charges import charge_failure, charge_success, void
from app.jobs.ends.ending import Ending
from app.jobs.states import AT_FAL, BEFORE_ANSWER, QUEUED
from app.wiring import Wiring

_CLOCKS_APART: Final = timedelta(seconds=2)  # fal's from ours: what it lets go of so early is not sent anew
_NOT_STARTED: Final = "Request timed out before it started"


def error_json(
    *,
    code: str,
    title: str,
    detail: str,
    retryable: bool = False,
    fal_status: int | None = None,
    fal_type: str | None = None,
) -> str:
    """A job's `error`, as JSON text."""
    return to_json(
        {
            "code": code,
            "title": title,
            "detail": detail,
            "retryable": retryable,
            "fal": {"status": fal_status, "type": fal_type},
        }
    ).decode()


def fal_error_json(error: FalError) -> str:
    """Fal's own error as a job's `error`."""
    return error_json(
        code=(error.type or "fal-error").replace("_", "-"),
        title=error.title,
        detail=error.detail,
        retryable=error.retryable,
        fal_status=error.code,
        fal_type=error.type,
    )


def succeeded(job: Claimed, result: Succeeded, inference_seconds: float | None = None) -> Ending:
    """The model made it, in so many seconds."""
    return Ending(
        job_id=job.job_id,
        was=AT_FAL,
        attempt_id=job.attempt_id,
        status="succeeded",
        charge=charge_success(result.billable),
        output=to_json(result.output).decode(),
        fal_reply=success_reply(result.billable),
        inference_seconds=inference_seconds,
    )


def old_before(wiring: Wiring) -> datetime:
    """Jobs made before this may have run past their deadline."""
    return wiring.clock() - timedelta(seconds=wiring.settings.job_deadline_seconds)


def failed(job: Followed, result: Failed, *, old_before: datetime, inference_seconds: float | None = None) -> Ending:
    """The model's own error, or a cancel that fal has carried out: the caller's, or ours of a job past its deadline.

    Ours may be of a job made before `old_before` (JOB_DEADLINE_SECONDS ago). Its age tells, since a crash or a restored
    dump may hide that we asked, and its caller must not be told twice and differently.
    """
    has_asked = job.cancel_requested_at is not None
    is_canceled = result.canceled or (has_asked and result.error.code == CLIENT_CLOSED)
    ours = not has_asked and (job.job_id < first_id(old_before) or job.attempt_outcome == "deadline")
    if ours and result.error.code == CLIENT_CLOSED:
        status, error, reply = "failed", _past_its_deadline(result.error), None
    elif is_canceled:
        status, error, reply = "canceled", _canceled_at_fal(result.error), failure_reply(result.error)
    else:
        status, error, reply = "failed", fal_error_json(result.error), failure_reply(result.error)
    return Ending(
        job_id=job.job_id,
        was=AT_FAL,
        attempt_id=job.attempt_id,
        status=status,
        charge=charge_failure(result),
        error=error,
        fal_reply=reply,
        inference_seconds=inference_seconds,
    )


def _past_its_deadline(error: FalError) -> str:
    return error_json(
        code="deadline-exceeded",
        title="Deadline exceeded",
        detail="It took longer than the gateway allows, and was cancelled at fal. Ask again.",
        retryable=True,
        fal_status=error.code,
        fal_type=error.type,
    )


def _canceled_at_fal(error: FalError) -> str:
    return error_json(
        code="canceled", title="Canceled", detail="It was cancelled at fal.", fal_status=error.code, fal_type=error.type
    )


def refused(job: Claimed, error: FalError) -> Ending:
    """Refused at the submit, because of its input."""
    return Ending(
        job_id=job.job_id,
        was=BEFORE_ANSWER,
        attempt_id=job.attempt_id,
        status="failed",
        charge=void("fal refused it: nothing was made"),
        error=fal_error_json(error),
        fal_reply=failure_reply(error),
    )


def unsendable(job: Claimed) -> Ending:
    """No request can be made of it: it would be tried for ever."""
    return Ending(
        job_id=job.job_id,
        was=BEFORE_ANSWER,
        attempt_id=job.attempt_id,
        status="failed",
        charge=void("never sent: no request to fal could be made of it"),
        error=error_json(
            code="unsendable",
            title="Unsendable",
            detail="The gateway could make no request to fal of it; whoever runs it finds the reason in the log.",
        ),
    )


def overdue(job_id: UUID) -> Ending:
    """It waited in `queued` longer than QUEUE_SECONDS."""
    return Ending(
        job_id=job_id,
        was=QUEUED,
        attempt_id=None,
        status="failed",
        charge=void("waited longer than QUEUE_SECONDS: never sent"),
        error=error_json(
            code="queue-timeout",
            title="Queue timeout",
            detail="fal took no job for too long. Nothing was charged; ask again.",
            retryable=True,
        ),
    )


def has_waited_as_asked(job: Followed, *, now: datetime) -> bool:
    """Whether fal's letting go of it is the start deadline that its caller asked for, and nobody has cancelled it."""
    return job.start_by is not None and job.cancel_requested_at is None and job.start_by < now + _CLOCKS_APART


def not_started(job_id: UUID, *, was: frozenset[str], attempt_id: UUID | None) -> Ending:
    """It did not start in the time that its caller gave it: as fal itself says it (FAL.md 1.7, 2.3)."""
    headers = {"x-fal-error-type": "request_timeout", "x-fal-request-timeout-type": "user"}
    body = {"detail": _NOT_STARTED, "error_type": "request_timeout"}
    return Ending(
        job_id=job_id,
        was=was,
        attempt_id=attempt_id,
        status="failed",
        charge=void("it did not start in the time that its caller gave it"),
        error=error_json(
            code="request-timeout",
            title="Request timeout",
            detail=f"{_NOT_STARTED}: the start deadline was the caller's own.",
            fal_status=HTTPStatus.GATEWAY_TIMEOUT,
            fal_type="request_timeout",
        ),
        fal_reply=to_json({"status": HTTPStatus.GATEWAY_TIMEOUT, "headers": headers, "body": body}).decode(),
    )


def canceled_while_queued(job_id: UUID, *, by: str) -> Ending:
    """Its caller cancelled it before it was sent; `by` names them."""
    return Ending(
        job_id=job_id,
        was=QUEUED,
        attempt_id=None,
        status="canceled",
        charge=void("cancelled while queued", by=by),
        error=error_json(code="canceled", title="Canceled", detail="It was cancelled before fal had it."),
        is_cancel=True,
    )


def canceled_before_start(job: Claimed, *, was: frozenset[str]) -> Ending:
    """Its caller had cancelled it, and fal does not have it, or never started it."""
    return Ending(
        job_id=job.job_id,
        was=was,
        attempt_id=job.attempt_id,
        status="canceled",
        charge=void("cancelled before fal started it"),
        error=error_json(code="canceled", title="Canceled", detail="It was cancelled before fal started it."),
    )

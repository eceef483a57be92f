"""Whose error is it? The tables of DESIGN.md, section 3, for each call and each answer of fal."""

import re
from http import HTTPStatus
from typing import Final

from app.fal.errors import SPEAKS_OF_US, read_error
from app.fal.lines import read_lines
from app.fal.messages import Reply, clean, position_in, seconds_in, storable, text_in
from app.fal.outcomes import (
    Accepted,
    AlreadyCompleted,
    CancelDone,
    CancelOutcome,
    CancelRequested,
    Completed,
    Failed,
    Gone,
    InProgress,
    NotYet,
    Queued,
    Refused,
    RefusedUs,
    RequestRef,
    ResultOutcome,
    StatusOutcome,
    SubmitOutcome,
    Succeeded,
    Trouble,
    Unknown,
    UnknownStatus,
)
from app.fal.paths import FalUrl, is_request_id

_PATH_NOT_FOUND: Final = re.compile(r"path\b.*\bnot found\b", re.IGNORECASE | re.DOTALL)  # FAL.md 2.1
_REFUSALS: Final = (400, 413, 422)


def read_submit(reply: Reply, *, endpoint: str, queue_url: FalUrl) -> SubmitOutcome:
    """What became of a submit, by DESIGN's table. Only a 200 with a usable request id is `Accepted`."""
    match reply.code:
        case 200:
            return _read_accepted(reply, endpoint, queue_url)
        case code if code in range(400, 500) and code != HTTPStatus.REQUEST_TIMEOUT:
            if _is_refusal(reply):
                return Refused(read_error(reply))
            return RefusedUs(code, _say(reply), reply.retry_after_seconds)
        case code:
            return Unknown(_say(reply), code)


def _read_accepted(reply: Reply, endpoint: str, queue_url: FalUrl) -> Accepted | Unknown:
    answer = reply.json or {}
    request_id = answer.get("request_id")
    if not isinstance(request_id, str) or not is_request_id(request_id):
        return Unknown(f"{_say(reply)}: no usable request id", reply.code)
    return Accepted(queue_url.returned_ref(endpoint, request_id, answer), position_in(answer))


def _is_refusal(reply: Reply) -> bool:
    if reply.code in _REFUSALS:
        return reply.is_fal_error
    names_the_path = isinstance(reply.detail, str) and _PATH_NOT_FOUND.match(reply.detail) is not None
    return reply.code == HTTPStatus.NOT_FOUND and names_the_path


def read_status(reply: Reply) -> StatusOutcome:
    """What a status read says.

    200 and 202 both are read by their body alone, as fal's clients do (FAL.md 1.3).
    """
    if reply.code not in {200, 202}:
        return _gone(reply) or _trouble(reply)
    answer = reply.json or {}
    match text_in(answer, "status", 100):
        case "IN_QUEUE":
            return Queued(position_in(answer))
        case "IN_PROGRESS":
            return InProgress(read_lines(answer))
        case "COMPLETED":
            return Completed(
                text_in(answer, "error"),
                text_in(answer, "error_type", 100),
                seconds_in(answer.get("metrics"), "inference_time"),
                read_lines(answer),
            )
        case None:
            return _trouble(reply)
        case other:
            return UnknownStatus(other)


def read_result(reply: Reply, ref: RequestRef, completed: Completed) -> ResultOutcome:
    """What a result read says, after a status body said COMPLETED.

    A 200 is a success, unless the status body carried an error and the reply is one of fal's error shapes.
    """
    if _is_not_yet(reply):
        return NotYet()
    if _is_the_models(reply, ref, completed):
        return _read_failed(reply, completed)
    if reply.code == HTTPStatus.OK and reply.json is not None:
        output = {str(storable(name)): storable(value) for name, value in reply.json.items()}
        return Succeeded(output, reply.billable)
    return _gone(reply) or _trouble(reply)


def _is_not_yet(reply: Reply) -> bool:
    """`{"detail":"Request is still in progress"}` (3P, FAL.md 1.5), whatever the headers."""
    says_so = isinstance(reply.detail, str) and "still in progress" in reply.detail.lower()
    return says_so and reply.code == HTTPStatus.BAD_REQUEST


def _is_the_models(reply: Reply, ref: RequestRef, completed: Completed) -> bool:
    """DESIGN.md, "Whose error is it?": JSON with `detail`, and a mark that it is about this request."""
    if reply.json is None or reply.json.get("detail") is None:
        return False
    status_says_so = completed.error is not None or completed.error_type is not None
    match reply.code:
        case 200:
            return status_says_so and reply.is_fal_error
        case code if code in SPEAKS_OF_US:
            return completed.error is not None
        case code if code in range(400, 600):
            return (
                status_says_so
                or "x-fal-error-type" in reply.headers
                or "x-fal-billable-units" in reply.headers
                or reply.headers.get("x-fal-request-id", "").strip() == ref.fal_request_id
            )
        case _:
            return False


def _read_failed(reply: Reply, completed: Completed) -> Failed:
    error = read_error(reply, completed)
    deadline = reply.headers.get("x-fal-request-timeout-type", "").strip().lower()
    return Failed(
        error,
        reply.billable,
        start_deadline=reply.code == HTTPStatus.GATEWAY_TIMEOUT and deadline == "user",
        canceled=error.is_cancel,
        doubtful=completed.error is None and completed.error_type is None,
    )


def read_cancel(reply: Reply) -> CancelOutcome:
    """What a cancel came to (FAL.md 1.6); the other form, `{"success": true}`, promises only a signal."""
    answer = reply.json or {}
    match reply.code, answer.get("status"):
        case 200, "OK":
            return CancelDone()
        case 200 | 202, "CANCELLATION_REQUESTED":
            return CancelRequested()
        case 200 | 400 | 409, "ALREADY_COMPLETED":
            return AlreadyCompleted()
        case 200 | 202, None if answer.get("success") is True:
            return CancelRequested()
        case _:
            return _gone(reply) or _trouble(reply)


def _gone(reply: Reply) -> Gone | None:
    """404 or 410 in fal's shape: `{"status":"NOT_FOUND"}` or `{"detail": …}`. A proxy's 404 is not."""
    if reply.code not in {404, 410} or reply.json is None:
        return None
    in_fals_shape = reply.json.get("status") == "NOT_FOUND" or reply.json.get("detail") is not None
    return Gone(reply.code) if in_fals_shape else None


def _trouble(reply: Reply) -> Trouble:
    return Trouble(_say(reply), reply.code, reply.retry_after_seconds)


def _say(reply: Reply) -> str:
    """One line for the operator: the code, fal's words, and the request id a lost answer may have named."""
    request_id = reply.headers.get("x-fal-request-id", "")
    named = f" (x-fal-request-id {request_id})" if is_request_id(request_id) else ""
    if reply.detail:
        words = f": {read_error(reply).detail}"
    elif reply.json is None:
        words = ": not a JSON object" if reply.body else ": an empty body"
    else:
        words = ""
    return clean(f"fal answered {reply.code}{named}{words}", 500)

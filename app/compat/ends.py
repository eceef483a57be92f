"""What callers of fal's protocol are told of a job that did not succeed: fal's own words, or fitting ones of fal's."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pydantic_core import from_json

from app.fal import CLIENT_CLOSED
from app.jobs.ends.fal_webhook import OWN_ENDS

_FREE: Final = {"x-fal-billable-units": "0"}
# Both clients take this 504 for the end of it; another one JavaScript reads three times more (FAL.md 4.1, 4.2).
_NOT_REPEATED: Final = {"x-fal-request-timeout-type": "user"}

# By the code of a job's error: ends that are the gateway's own, as fal's platform words them (FAL.md 2.3).
_OWN: Final[Mapping[str, tuple[int, str, Mapping[str, str]]]] = {
    error: (code, error_type, _FREE if code == CLIENT_CLOSED else _NOT_REPEATED)
    for error, (code, error_type) in OWN_ENDS.items()
}
_CANCELED: Final = "Request was cancelled by the client"


@dataclass(frozen=True, slots=True)
class End:
    """The reply that each read of the result repeats; `error` and `error_type` are what the status body says of it."""

    code: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    error: str
    error_type: str | None


def read_end(error: str, fal_reply: str | None) -> End:
    """The end of a job by its `error` and `fal_reply`, both JSON text; the latter as `replies` wrote it, or None."""
    ours: dict[str, Any] = from_json(error)
    if fal_reply is None:
        return _own_end(ours)
    said: dict[str, Any] = from_json(fal_reply)
    headers, body = dict(said["headers"]), dict(said["body"])
    if "error_type" in body:  # a webhook has told the body alone
        headers.setdefault("x-fal-error-type", str(body["error_type"]))
    body["detail"] = body.get("detail") or ours["detail"]
    return End(
        code=said["status"],
        headers=headers,
        body={**body, "message": ours["detail"]},
        error=_words(body["detail"]) or ours["detail"],
        error_type=ours["fal"]["type"],
    )


def _own_end(ours: Mapping[str, Any]) -> End:
    """Without fal's words: by the code of the error, or by what is known of fal's."""
    code, error_type, headers = _OWN.get(ours["code"]) or _of_fal(ours["fal"])
    detail = _CANCELED if code == CLIENT_CLOSED else ours["detail"]
    return End(
        code=code,
        headers={"x-fal-error-type": error_type, **headers},
        body={"detail": detail, "error_type": error_type, "message": ours["detail"]},
        error=detail,
        error_type=error_type,
    )


def _of_fal(fal: Mapping[str, Any]) -> tuple[int, str, Mapping[str, str]]:
    return (fal["status"] or HTTPStatus.INTERNAL_SERVER_ERROR, fal["type"] or "internal_error", {})


def _words(detail: object) -> str | None:
    """What a `detail` says in one text: itself, or its first entry's `msg` (FAL.md 2.1)."""
    if isinstance(detail, list):
        first = detail[0] if detail else None
        detail = first.get("msg") if isinstance(first, dict) else first
    return detail if isinstance(detail, str) and detail else None

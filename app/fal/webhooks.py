"""fal's webhooks, once their signature holds: read with tolerance, kept in part, asked later what they told."""

import re
from dataclasses import dataclass
from typing import Final

import pydantic_core

from app.fal.errors import read_error
from app.fal.messages import Reply, storable
from app.fal.outcomes import Failed, Succeeded
from app.fal.paths import is_request_id

_KEPT: Final = ("request_id", "status", "payload", "error", "payload_error")
_STATUS_CODE: Final = re.compile(r"Invalid status code: ([45][0-9]{2})")  # FAL.md 3


@dataclass(frozen=True, slots=True)
class Webhook:
    """What a webhook says, about this fal request; `kept` is as much of it as is worth storing, as JSON text."""

    fal_request_id: str
    kept: str


def read_webhook(body: bytes) -> Webhook | None:
    """The webhook of a verified body; None when it is no JSON object that names a request."""
    told = Reply(200, {}, body).json or {}
    request_id = told.get("request_id")
    if not isinstance(request_id, str) or not is_request_id(request_id):
        return None
    kept = {name: storable(told[name]) for name in _KEPT if name in told}
    return Webhook(request_id, pydantic_core.to_json(kept, inf_nan_mode="null").decode())


def told_outcome(kept: str) -> Succeeded | Failed | None:
    """How the request ended, where what was kept of its webhook carries it; None: only fal's result tells.

    A webhook never says what was billed.
    """
    told = Reply(200, {}, kept.encode()).json or {}
    payload = told.get("payload")
    if not isinstance(payload, dict) or told.get("payload_error"):
        return None
    match told.get("status"), told.get("error"):
        case "OK", None | "":
            return Succeeded({str(name): value for name, value in payload.items()}, None)
        case "ERROR", str(words) if found := _STATUS_CODE.fullmatch(words.strip()):
            return _failed(int(found[1]), payload)
        case _:
            return None


def _failed(code: int, payload: dict[str, object]) -> Failed | None:
    reply = Reply(code, {}, pydantic_core.to_json(payload, inf_nan_mode="null"))
    if not reply.is_fal_error:
        return None
    error = read_error(reply)
    return Failed(error, None, start_deadline=False, canceled=error.is_cancel)

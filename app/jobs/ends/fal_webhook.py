"""The end of a job as fal's own webhook would tell it (FAL.md 3), for jobs that came by fal's protocol."""

from collections.abc import Mapping
from typing import Final

from app.ids import sql_show

OWN_ENDS: Final[Mapping[str, tuple[int, str]]] = {
    "canceled": (499, "client_cancelled"),
    "queue-timeout": (504, "request_timeout"),
    "deadline-exceeded": (504, "request_timeout"),
}
"""What fal would have called the ends that are our own doing, by the code of a job's `error` (FAL.md 2.3)."""


def _own(part: int) -> str:
    told = " ".join(f"WHEN '{code}' THEN '{ends[part]}'" for code, ends in OWN_ENDS.items())
    return f"CASE j.error ->> 'code' {told}"


_STATUS: Final = (
    f"coalesce(j.fal_reply ->> 'status', {_own(0)} ELSE coalesce(j.error -> 'fal' ->> 'status', '500') END)"
)
_TYPE: Final = f"{_own(1)} ELSE coalesce(j.error -> 'fal' ->> 'type', 'internal_error') END"
# What fal's own reply said is replayed; else (an end of our own) it is an error of the platform's.
_PAYLOAD: Final = f"""CASE WHEN j.fal_reply #> '{{body,detail}}' IS NOT NULL THEN j.fal_reply -> 'body'
    ELSE json_build_object('detail', j.error ->> 'detail', 'error_type', {_TYPE}) END"""
_ID: Final = sql_show("job", "j.id")
_NAMED: Final = f"'request_id', {_ID}, 'gateway_request_id', {_ID}"

FAL_JSON: Final = f"""(CASE WHEN j.status = 'succeeded'
    THEN json_build_object({_NAMED}, 'status', 'OK', 'payload', j.output)
    ELSE json_build_object({_NAMED}, 'status', 'ERROR', 'error', 'Invalid status code: ' || {_STATUS},
                           'payload', {_PAYLOAD}) END)::text"""
"""The SQL that writes the row `j` of `jobs`, which has ended, as fal's webhook, in JSON text."""

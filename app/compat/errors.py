"""Our refusals in fal's shapes, for every path under `/fal/`; chosen so that no client of fal's repeats one.

Python repeats 408, 409 and 429 ten times, on submits too; JavaScript repeats 429, 502, 503 and 504 (FAL.md 4.1, 4.2).
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final, cast

from pydantic_core import ErrorDetails, to_json
from starlette.responses import Response

from app.problems import InvalidInput, Problem, cut

PREFIX: Final = "/fal/"

ONCE: Final[Mapping[int, int]] = {408: 400, 409: 400, 429: 403}
"""What is answered instead of a code on which Python sends any call again."""
_QUOTA: Final = 402
_KINDS: Final[Mapping[str, str]] = {
    "literal_error": "one_of",
    "string_too_long": "sequence_too_long",
    "string_too_short": "sequence_too_short",
}
"""What fal calls some of pydantic's types of errors (FAL.md 2.2)."""
_QUOTED: Final = re.compile(r"'([^']*)'")
_SHOWN_CHARACTERS: Final = 100
_SHOWN_BITS: Final = 64
_PLACES: Final = {"pointer": "body", "parameter": "query", "header": "header"}
_FREE: Final = {"x-fal-billable-units": "0", "x-fal-retryable": "false"}


def fal_answer(problem: Problem) -> Response:
    """A problem as fal would say it: `detail` for Python, `message` for JavaScript, figures beside them.

    Bad input has fal's list of entries as its `detail` (FAL.md 2.1), anything else a text and an `error_type`.
    """
    if isinstance(problem, InvalidInput):
        entries = [_entry(error) for error in problem.found] or [_fault(error) for error in problem.faults]
        message = "; ".join(f"{_where(entry['loc'])}: {entry['msg']}" for entry in entries)
        return _answer(problem.status, {"detail": entries, "message": message}, _FREE)
    kind = problem.code.replace("-", "_")
    detail = _quotas(problem.members["quotas"]) if "quotas" in problem.members else problem.detail
    body = {"detail": detail, "message": detail, "error_type": kind, **problem.members}
    return _answer(_status(problem), body, {**problem.headers, "x-fal-error-type": kind})


def _answer(status: int, body: Mapping[str, object], headers: Mapping[str, str]) -> Response:
    return Response(to_json(body), status_code=status, media_type="application/json", headers=headers)


def _status(problem: Problem) -> int:
    """Every quota's refusal is a 402: what waiting would mend is not for a client to wait for in secret."""
    return _QUOTA if "quotas" in problem.members else ONCE.get(problem.status, problem.status)


def _quotas(quotas: Any) -> str:
    """Both clients show their users this text and nothing else of a refusal: so here the figures are in it."""
    told = []
    for quota in quotas:
        window = f" per {quota['window']}" if quota["window"] else ""
        ends_at = quota["window_ends_at"]
        until = f" until {ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if ends_at else ""
        left = f"{quota['remaining']} of {quota['maximum']} left{until}, {quota['requested']} asked for"
        told.append(f"{quota['scope']} {quota['metric']}{window}: {left}")
    return f"A quota does not allow this job. {'; '.join(told)}."


def _entry(error: ErrorDetails) -> dict[str, Any]:
    """One of pydantic's errors as models write it."""
    kind = _KINDS.get(error["type"], error["type"])
    given = error["input"] if error["type"] != "missing" else None
    entry: dict[str, Any] = {
        "loc": ["body", *(cut(step) if isinstance(step, str) else step for step in error["loc"])],
        "msg": error["msg"],
        "type": kind,
        "url": f"https://docs.fal.ai/errors#{kind}",
    }
    context = _context(error)
    return entry | ({"ctx": context} if context else {}) | {"input": _shown(given)}


def _context(error: ErrorDetails) -> dict[str, Any]:
    context = {name: value for name, value in error.get("ctx", {}).items() if isinstance(value, str | int | float)}
    if error["type"] == "literal_error":
        return {"expected": _QUOTED.findall(cast("str", context["expected"]))}
    return {} if error["type"] == "file_download_error" else context


def _shown(given: object) -> object:
    if isinstance(given, str):
        return given[:_SHOWN_CHARACTERS]
    if isinstance(given, float):
        return given if math.isfinite(given) else None  # 1e999 is JSON, Infinity is not
    return given if isinstance(given, int) and given.bit_length() <= _SHOWN_BITS else None


def _fault(fault: Mapping[str, str]) -> dict[str, Any]:
    """One of our own faults, which says where it is by `pointer`, `parameter` or `header`."""
    place = next(name for name in _PLACES if name in fault)
    steps = [step for step in fault[place].split("/") if step]
    return {"loc": [_PLACES[place], *steps], "msg": fault["detail"], "type": "value_error"}


def _where(loc: list[str | int]) -> str:
    return ".".join(str(step) for step in loc[1:]) or str(loc[0])

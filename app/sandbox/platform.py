"""What a gateway needs of fal besides the queue: lists, balance, erasing (FAL.md 6), webhooks' keys (FAL.md 3)."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import nlargest
from typing import Any
from urllib.parse import parse_qs

from app.sandbox.answers import Answer, json_answer
from app.sandbox.bill import tell_bill
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.faults import spoil, take_fault
from app.sandbox.jobs import ENDED, Job
from app.sandbox.submits import refuse_key

PATHS = {
    ".well-known/jwks.json": "jwks",
    "v1/models/requests/by-endpoint": "list",
    "v1/account/billing": "billing",
    "v1/models/pricing": "pricing",
    "v1/models/billing-events": "bill",
}
ERASED = re.compile(r"v1/models/requests/([^/]+)/payloads")
LISTED_SECONDS = 24 * 3600.0
MOST_LISTED = 100
USUALLY_LISTED = 50
MOST_ENDPOINTS = 50
LIST_QUERY = frozenset({"endpoint_id", "request_id", "status", "limit", "cursor", "expand"})
OUTCOMES = {"success": range(200, 400), "user_error": range(400, 500), "error": range(500, 600)}
ERROR_TYPES = {401: "authorization_error", 403: "authorization_error", 404: "not_found", 429: "rate_limited"}


async def answer_platform(box: Box, call: Call, name: str) -> Answer:
    """Answer a GET of one of `PATHS`; every error but the key set's in the platform's shape."""
    box.calls[name] += 1
    fault = take_fault(box.faults, name, None)
    if fault is None:
        return await _answer(box, call, name)
    answer = await spoil(fault, lambda: _answer(box, call, name), is_read=True)
    return answer if name == "jwks" else _in_shape(answer)


async def answer_erasing(box: Box, call: Call, request_id: str) -> Answer:
    """Answer a DELETE of a request's payloads; any key may, as this fal knows no scopes.

    What fal says of one that has not ended is not known (FAL.md): here it is refused.
    """
    box.calls["erase"] += 1
    job = box.jobs.get(request_id)
    prompt = job.input.get("prompt") if job and isinstance(job.input, dict) else None
    fault = take_fault(box.faults, "erase", prompt)

    async def act() -> Answer:
        return refuse_key(call) or _erase(box, job)

    return _in_shape(await act() if fault is None else await spoil(fault, act))


def _erase(box: Box, job: Job | None) -> Answer:
    if job is None:
        return _error(404, "Request not found")
    if job.status_at(box.read_clock()) != ENDED:
        return _error(409, "Request is still in progress")
    files = [] if job.erased or job.outcome() != "succeeded" else _files_of(job)
    job.erase()
    return json_answer(200, {"cdn_delete_results": [{"link": link, "exception": None} for link in files]})


def _files_of(job: Job) -> list[str]:
    video = json.loads(job.result(job.origin).body)["video"]
    return [video["url"]] if video else []


async def _answer(box: Box, call: Call, name: str) -> Answer:
    if name == "jwks":
        return json_answer(200, box.keys.publish())
    refusal = refuse_key(call)
    if refusal:
        return _in_shape(refusal)
    query = parse_qs(call.scope["query_string"].decode())
    if name == "billing":
        return json_answer(200, _tell_balance(box, query))
    try:
        tell = {"bill": tell_bill, "list": _list_requests}.get(name)
        return json_answer(200, tell(box, query) if tell else box.prices.page(query))
    except ValueError as wrong:
        return _error(422, str(wrong))


def _error(status: int, message: str) -> Answer:
    kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "validation_error")  # noqa: PLR2004
    return json_answer(status, {"error": {"type": kind, "message": message}})


def _in_shape(answer: Answer) -> Answer:
    """Return a refusal in the queue's words as the platform words it; anything else as it is."""
    if answer.status < 400 or answer.delivery != "send":  # noqa: PLR2004
        return answer
    try:
        content = json.loads(answer.body)
    except ValueError:
        return answer
    return answer if "error" in content else _error(answer.status, str(content.get("detail", content.get("status"))))


def _tell_balance(box: Box, query: dict[str, list[str]]) -> dict[str, Any]:
    content: dict[str, Any] = {"username": box.account.username}
    if "credits" in _split(query.get("expand", [])):
        # A JSON number, as fal's schema has it: written with nine places, never reckoned with.
        balance = float(round(box.account.balance_usd(box.billed_usd(box.read_clock())), 9))
        content["credits"] = {"current_balance": balance, "currency": "USD"}
    return content


def _list_requests(box: Box, query: dict[str, list[str]]) -> dict[str, Any]:
    unknown = query.keys() - LIST_QUERY
    if unknown:
        raise ValueError(f"the sandbox does not know {', '.join(sorted(unknown))}")
    endpoints = _split(query.get("endpoint_id", []))
    if not 1 <= len(endpoints) <= MOST_ENDPOINTS:
        raise ValueError(f"endpoint_id is required, at most {MOST_ENDPOINTS} of them")
    limit, below = _read_limit(query), _read_cursor(query)
    ids, outcome = _split(query.get("request_id", [])), query.get("status", [""])[-1]
    if outcome and outcome not in OUTCOMES:
        raise ValueError(f"status is one of {', '.join(OUTCOMES)}")
    moment = box.read_clock()
    known = (
        job
        for job in _list_started(box, moment, ids)
        if job.endpoint in endpoints
        and (below is None or _place_of(job) < below)
        and (not outcome or _code_known_at(box, job, moment) in OUTCOMES[outcome])
    )
    page = nlargest(limit + 1, known, key=_place_of)
    has_more = len(page) > limit
    with_payloads = "payloads" in _split(query.get("expand", []))
    return {
        "items": [_describe(box, job, moment, with_payloads=with_payloads) for job in page[:limit]],
        "next_cursor": _write_cursor(page[limit - 1]) if has_more else None,
        "has_more": has_more,
    }


def _list_started(box: Box, moment: float, ids: list[str]) -> Iterator[Job]:
    """Give what the list knows by now: only what has started, at least the lag and at most a day ago."""
    jobs = [job for each in ids if (job := box.jobs.get(each))] if ids else box.jobs.values()
    for job in jobs:
        age = moment - job.started
        if job.has_started_by(moment) and box.list_lag_seconds <= age <= LISTED_SECONDS and not job.plan.unlisted:
            yield job


def _code_known_at(box: Box, job: Job, moment: float) -> int:
    """Return the code of a request whose end the list knows, else 0."""
    return job.result(job.origin).status if job.status_at(moment - box.list_lag_seconds) == ENDED else 0


def _describe(box: Box, job: Job, moment: float, *, with_payloads: bool) -> dict[str, Any]:
    code = _code_known_at(box, job, moment) or None
    started_at = box.wall_time(job, job.started)
    ended_at = box.wall_time(job, job.ended) if code else None
    content = {
        "request_id": job.request_id,
        "endpoint_id": job.endpoint,
        "started_at": _write_time(started_at),
        "sent_at": _write_time(job.submitted_at),
        "ended_at": _write_time(ended_at) if ended_at else None,
        "status_code": code,
        "duration": round(ended_at - started_at, 6) if ended_at else None,
    }
    if with_payloads:
        output = json.loads(job.result(job.origin).body) if code and not job.erased else None
        content |= {"json_input": job.given, "json_output": output}
    return content


def _write_time(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds")


def _place_of(job: Job) -> tuple[float, str]:
    return job.started, job.request_id


def _read_limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(USUALLY_LISTED)])[-1]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_LISTED):
        raise ValueError(f"limit is 1 to {MOST_LISTED}")
    return int(text)


def _write_cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.started!r} {job.request_id}".encode()).decode()


def _read_cursor(query: dict[str, list[str]]) -> tuple[float, str] | None:
    if "cursor" not in query:
        return None
    try:
        started, request_id = base64.urlsafe_b64decode(query["cursor"][-1]).decode().split(" ")
        return float(started), request_id
    except ValueError:
        raise ValueError("cursor is none of ours") from None


def _split(values: list[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]

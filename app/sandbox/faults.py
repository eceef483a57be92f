"""What fal and the network between can answer instead of the right answer, and for which calls it is set."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from app.sandbox.answers import HTML_TYPE, JSON_TYPE, Answer, json_answer, platform_error
from app.sandbox.validation import make_problem

LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
CALLS = ("submit", "status", "stream", "result", "cancel")
PLATFORM_CALLS = ("jwks", "list", "billing", "pricing", "bill", "erase")
STORAGE_CALLS = ("initiate", "put")
FOR_EVER = -1


def _page(status: int, title: str) -> Answer:
    # An ingress' own page: not fal's, so without x-fal-request-id (FAL.md 4.1 on "nginx" in a page).
    page = f"<html><head><title>{title}</title></head><body><h1>{status} {title}</h1>nginx</body></html>"
    return Answer(status, page.encode(), (HTML_TYPE,))


def _refused_input(_right: Answer) -> Answer:
    problem = make_problem(["body", "prompt"], "Input should be a valid string", "string_type")
    return json_answer(422, {"detail": [problem]}, headers=((b"x-fal-billable-units", b"0"),))


def _fal(status: int, detail: str, error_type: str = "") -> Callable[[Answer], Answer]:
    return lambda _right: platform_error(status, detail, error_type)


# Each takes the right answer (empty when the call was not carried out) and gives what is sent in its place.
FAULTS: dict[str, Callable[[Answer], Answer]] = {
    "202": lambda right: replace(right, status=202),
    "307": lambda _right: Answer(307, b"", (JSON_TYPE, (b"location", b"http://127.0.0.1:9/elsewhere"))),
    "400": _fal(400, "Bad request", "bad_request"),
    "401": _fal(401, "No user found for Key ID and Secret"),
    "403-locked": _fal(403, LOCKED),
    "404": lambda _right: json_answer(404, {"status": "NOT_FOUND"}),
    "404-html": lambda _right: _page(404, "Not Found"),
    "404-path": _fal(404, "Path /v2.1/master/text-to-video not found"),
    "408": _fal(408, "Request timeout"),
    "409": _fal(409, "Conflict"),
    "413": _fal(413, "Payload too large"),
    "422": _refused_input,
    "429": _fal(429, "Too many requests"),
    "500": _fal(500, "Internal Server Error", "internal_error"),
    "502-html": lambda _right: _page(502, "Bad Gateway"),
    "503": _fal(503, "No runner could be scheduled", "runner_scheduling_failure"),
    "504-html": lambda _right: _page(504, "Gateway Time-out"),
    "504-deadline": lambda _right: platform_error(
        504,
        "Request timed out before it started",
        "request_timeout",
        headers=((b"x-fal-request-timeout-type", b"user"),),
    ),
    "odd-status": lambda right: replace(right, body=b'{"status":"PAUSED"}', status=right.status or 200),
    "empty": lambda right: replace(right, body=b"", status=right.status or 200),
    "truncated": lambda right: replace(
        right,
        body=(right.body or b'{"status":"IN_QUEUE","')[: len(right.body) // 2 or 8],
        status=right.status or 200,
    ),
    "cut": lambda right: replace(
        right, body=right.body or b'{"status":"IN_QUEUE"}', status=right.status or 200, delivery="cut"
    ),
    "close": lambda right: replace(right, delivery="close"),
    "reset": lambda right: replace(right, delivery="reset"),
    "hang": lambda right: replace(right, delivery="hang"),
    "slow": lambda right: right,  # the right answer, `seconds` late
}
NOTHING_DONE = Answer(0)


@dataclass(slots=True)
class Fault:
    """One fault set from outside: which call, what, for how many more calls."""

    call: str
    name: str
    times_left: int
    accepted: bool
    seconds: float
    prompt: str

    def applies(self, call: str, prompt: object) -> bool:
        """Tell whether this call is meant."""
        if self.times_left == 0 or self.call not in (call, "any"):
            return False
        return not self.prompt or (isinstance(prompt, str) and self.prompt in prompt)


def read_fault(given: Any) -> Fault:
    """Return the fault that `POST /_sandbox/faults` describes; ValueError and TypeError say what is wrong."""
    if not isinstance(given, dict):
        raise TypeError("a fault is a JSON object")
    unknown = given.keys() - {"call", "fault", "times", "accepted", "seconds", "prompt"}
    if unknown:
        raise ValueError(f"unknown members: {sorted(unknown)}")
    call, name, times = given.get("call", "any"), given.get("fault"), given.get("times")
    known = (*CALLS, *PLATFORM_CALLS, *STORAGE_CALLS, "any")
    if call not in known:
        raise ValueError(f"call is one of {', '.join(known)}")
    if name not in FAULTS:
        raise ValueError(f"fault is one of {', '.join(FAULTS)}")
    if times is not None and (not isinstance(times, int) or times < 1):
        raise ValueError("times is a positive integer, or left out: until cleared")
    seconds, prompt = float(given.get("seconds", 1)), str(given.get("prompt", ""))
    accepted = bool(given.get("accepted"))
    return Fault(call, name, FOR_EVER if times is None else times, accepted, seconds, prompt)


async def spoil(fault: Fault, act: Callable[[], Awaitable[Answer]], *, is_read: bool = False) -> Answer:
    """Return what is answered in place of what `act` would; it is carried out if it is a read or `accepted`.

    A slow answer is a right one: carried out after `seconds`, or before them if `accepted`.
    """
    is_slow = fault.name == "slow"
    if is_slow and not fault.accepted:
        await asyncio.sleep(fault.seconds)
    right = await act() if fault.accepted or is_read or is_slow else NOTHING_DONE
    if is_slow and fault.accepted:
        await asyncio.sleep(fault.seconds)
    return FAULTS[fault.name](right)


def take_fault(faults: list[Fault], call: str, prompt: object) -> Fault | None:
    """Return the first fault meant for this call, counting it, or None."""
    for fault in faults:
        if fault.applies(call, prompt):
            if fault.times_left > 0:
                fault.times_left -= 1
            return fault
    return None

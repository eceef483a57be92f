"""What tests and demos ask of the sandbox; clearly not fal's, and without a key.

| call | body → answer |
|---|---|
| `GET /_sandbox/requests` | all jobs, oldest first; `?request_id=`, `?endpoint=`, `?prompt=` (a part of it) |
| `PATCH /_sandbox/requests/{id}` | `{"status": IN_QUEUE, IN_PROGRESS or COMPLETED}`: move it there now |
| `DELETE /_sandbox/requests` | forget all jobs and counts |
| `GET /_sandbox/state` | `{speed, concurrency, accepted, statuses, calls, faults}` |
| `POST /_sandbox/faults` | `{"fault", "call"?, "times"?, "accepted"?, "seconds"?, "prompt"?}`: set one more |
| `DELETE /_sandbox/faults` | clear them |
| `POST /_sandbox/speed` | `{"speed"?: 10, "advance"?: 2.5}`; speed 0 stops the clock, advance moves it on |
| `GET /_sandbox/scripts` | the words for prompts, the faults, the keys that are refused |

`fault` is a name in faults.FAULTS. `call`: submit, status, stream, result, cancel, or any (as without it).
`times`: so many calls; without it until cleared. `accepted`: the submit or cancel is carried out all the
same, only its answer is spoilt. `prompt`: only calls about a job whose prompt contains this. `seconds`: how
late the right answer of the fault `slow` is. The first fault that fits a call is the one it meets.
A job moved by hand takes no slot of `concurrency`; moved to IN_QUEUE it stays there until moved again.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from math import inf
from typing import Any

from app.sandbox.answers import Answer, json_answer
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.faults import FAULTS, read_fault
from app.sandbox.jobs import ENDED, Job
from app.sandbox.scripts import SCRIPTS
from app.sandbox.submits import SCRIPTED_KEYS, read_json

PREFIX = "_sandbox/"


async def answer_control(box: Box, call: Call) -> Answer:
    """Answer one control call; 400 says what is wrong with its body."""
    name, _, request_id = call.path.removeprefix(PREFIX).partition("/")
    route = ROUTES.get((call.method, name))
    if route is None:
        return json_answer(404, {"detail": f"{call.method} is none of: {sorted(ROUTES)}"})
    body = await call.body()
    given = read_json(body) if body else None
    if isinstance(given, Answer):
        return given
    try:
        content = route(box, {**call.query(), **({"request_id": request_id} if request_id else {})}, given)
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        return json_answer(400, {"detail": str(wrong)})
    return json_answer(200, content)


def _list_requests(box: Box, query: dict[str, str], _given: Any) -> dict[str, Any]:
    moment = box.read_clock()
    jobs = [job for job in box.jobs.values() if _is_wanted(job, query)]
    return {"requests": [describe_job(job, moment) for job in jobs]}


def _is_wanted(job: Job, query: dict[str, str]) -> bool:
    prompt = str(job.input.get("prompt", "")) if isinstance(job.input, dict) else ""
    return (
        query.get("request_id", job.request_id) == job.request_id
        and query.get("endpoint", job.endpoint) == job.endpoint
        and query.get("prompt", "") in prompt
    )


def describe_job(job: Job, moment: float) -> dict[str, Any]:
    """Return what is known of a job; of its key only a fingerprint."""
    status = job.status_at(moment)
    return {
        "request_id": job.request_id,
        "endpoint": job.endpoint,
        "input": job.input,
        "key_fingerprint": job.key_fingerprint,
        "headers": job.headers,
        "submitted_at": datetime.fromtimestamp(job.submitted_at, UTC).isoformat(timespec="milliseconds"),
        "status": status,
        "result_status": job.result(job.origin).status if status == ENDED else None,
        "billable_units": job.billed_units() if status == ENDED else None,
        "calls": job.calls,
    }


def _move_request(box: Box, query: dict[str, str], given: Any) -> dict[str, Any]:
    job, moment = box.jobs[query["request_id"]], box.read_clock()
    job.move(given["status"], moment)
    return describe_job(job, moment)


def _forget_requests(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    box.forget()
    return {}


def _describe_state(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    moment = box.read_clock()
    return {
        "speed": box.clock.speed,
        "concurrency": box.settings.concurrency,
        "accepted": len(box.jobs),
        "statuses": Counter(job.status_at(moment) for job in box.jobs.values()),
        "calls": box.calls,
        "faults": [asdict(fault) for fault in box.faults if fault.times_left],
    }


def _set_fault(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    fault = read_fault(given)
    box.faults = [*(other for other in box.faults if other.times_left), fault]
    return asdict(fault)


def _clear_faults(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    box.faults = []
    return {}


def _set_speed(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    speed, advance = float(given.get("speed", box.clock.speed)), float(given.get("advance", 0))
    if not (0 <= speed < inf and 0 <= advance < inf):
        raise ValueError("speed and advance are numbers not below 0")
    box.clock.set_speed(speed)
    box.clock.advance(advance)
    return {"speed": speed}


def _list_scripts(_box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    scripts = [{"word": each.word, "stage": each.stage, "sentence": each.sentence} for each in SCRIPTS]
    return {"scripts": scripts, "faults": list(FAULTS), "keys": SCRIPTED_KEYS}


ROUTES: dict[tuple[str, str], Callable[[Box, dict[str, str], Any], dict[str, Any]]] = {
    ("GET", "requests"): _list_requests,
    ("PATCH", "requests"): _move_request,
    ("DELETE", "requests"): _forget_requests,
    ("GET", "state"): _describe_state,
    ("POST", "faults"): _set_fault,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "speed"): _set_speed,
    ("GET", "scripts"): _list_scripts,
}

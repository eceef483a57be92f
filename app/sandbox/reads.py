"""Status, result and cancel of a job (FAL.md 1.3, 1.5, 1.6)."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from app.sandbox.answers import Answer, json_answer, platform_error
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.faults import FAULTS, NOTHING_DONE, take_fault
from app.sandbox.jobs import ENDED, QUEUED, Job
from app.sandbox.submits import origin_of, refuse_key, urls_of

# What may follow `…/requests/{id}`: clients and documents differ (FAL.md 1.2).
KINDS = {
    "": "result",
    "response": "result",
    "status": "status",
    "status/stream": "stream",
    "cancel": "cancel",
}
LOG_STEPS = 5


def parse_request_path(path: str) -> tuple[str, str, str] | None:
    """Return (alias or full endpoint, request id, kind of call); None if the path is not of a request's."""
    base, found, rest = path.partition("/requests/")
    request_id, _, tail = rest.partition("/")
    kind = KINDS.get(tail)
    return (base, request_id, kind) if found and request_id and kind else None


async def answer_read(box: Box, call: Call, base: str, request_id: str, kind: str) -> Answer | Job:
    """Answer a call about one request; for a status stream that may begin, return its job instead."""
    box.calls[kind] += 1
    job = box.find(base, request_id)
    if job:
        job.calls[kind] += 1
    prompt = job.input.get("prompt") if job and isinstance(job.input, dict) else None
    fault = take_fault(box.faults, kind, prompt) if box.faults else None
    if fault is None:
        return _read(box, call, job, kind)
    if fault.name == "slow":
        await asyncio.sleep(fault.seconds)
        return _read(box, call, job, kind)
    # A spoilt read is still a read of the right answer; a cancel is carried out only if it was accepted.
    right = _read(box, call, job, kind) if fault.accepted or kind != "cancel" else NOTHING_DONE
    return FAULTS[fault.name](right if isinstance(right, Answer) else NOTHING_DONE)


def _read(box: Box, call: Call, job: Job | None, kind: str) -> Answer | Job:
    refusal = refuse_key(call)
    if refusal:
        return refusal
    if call.method != ("PUT" if kind == "cancel" else "GET"):
        return platform_error(405, "Method Not Allowed")
    moment = box.read_clock()
    if job is None or (job.plan.forgotten and job.status_at(moment) == ENDED) or (job.erased and kind == "result"):
        return json_answer(404, {"status": "NOT_FOUND"})
    return _cancel(box, job, moment) if kind == "cancel" else _tell(box, call, job, kind)


def _cancel(box: Box, job: Job, moment: float) -> Answer:
    code, word = job.cancel(moment)
    box.outbox.look_again(job)
    return json_answer(code, {"status": word}, request_id=job.request_id)


def _tell(box: Box, call: Call, job: Job, kind: str) -> Answer | Job:
    if job.reads_silenced < job.plan.silent_reads:
        job.reads_silenced += 1
        return FAULTS["403-locked"](NOTHING_DONE)
    if kind == "stream":
        return job
    moment = box.read_clock()
    if kind == "result":
        return _tell_result(box, call, job, moment)
    content = describe_status(box, job, moment, with_logs=wants_logs(call))
    return json_answer(200 if content["status"] == ENDED else 202, content, request_id=job.request_id)


def wants_logs(call: Call) -> bool:
    """Tell whether logs are asked for: JS says 1, Python true (FAL.md 1.3)."""
    asked: bytes = call.scope["query_string"]
    return b"logs=" in asked and call.query().get("logs", "").lower() in ("1", "true")


def _tell_result(box: Box, call: Call, job: Job, moment: float) -> Answer:
    if job.status_at(moment) != ENDED:
        return json_answer(400, {"detail": "Request is still in progress"}, request_id=job.request_id)
    if job.results_garbled < job.plan.garbled_results:
        job.results_garbled += 1
        return FAULTS["502-html"](NOTHING_DONE)
    return job.result(origin_of(box, call))


def describe_status(box: Box, job: Job, moment: float, *, with_logs: bool) -> dict[str, Any]:
    """Return the status body: each state has its own members (FAL.md 1.3)."""
    status = job.status_at(moment)
    content: dict[str, Any] = {"status": status, "request_id": job.request_id, **urls_of(job)}
    if status == QUEUED:
        return {**content, "queue_position": box.queue_position(job, moment)}
    # The key must be there even without logs: Python's client reads it (FAL.md 1.3).
    content["logs"] = _write_logs(box, job, moment) if with_logs else None
    if status == ENDED:
        ran = job.started < job.ended
        content["metrics"] = {"inference_time": round(job.ended - job.started, 3) if ran else None}
        content.update(_describe_failure(job))
    return content


def _describe_failure(job: Job) -> dict[str, str]:
    failure = job.failure()
    if job.plan.quiet and not job.is_cancelled:
        return {}
    if failure is not None:
        return {"error": failure.message, "error_type": failure.kind}
    if job.problems:
        return {"error": str(job.problems[0]["msg"]), "error_type": str(job.problems[0]["type"])}
    return {}


def _write_logs(box: Box, job: Job, moment: float) -> list[dict[str, str]]:
    begun = job.started
    entries = []
    for step in range(LOG_STEPS + 1):
        written = begun + step * job.render_seconds / LOG_STEPS
        if written > min(moment, job.ended):
            break
        when = datetime.fromtimestamp(box.clock.wall_time(written), UTC).isoformat(timespec="milliseconds")
        message = f"Rendering: {step * 100 // LOG_STEPS}%"
        entries.append({"message": message, "level": "INFO", "source": "USER", "timestamp": when})
    return entries

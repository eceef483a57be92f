"""The POST that begins a job (FAL.md 1.1, 1.7)."""

import asyncio
import json
from math import inf
from typing import Any

from app.sandbox.answers import Answer, json_answer, platform_error
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.endpoints import alias_of, is_served
from app.sandbox.faults import FAULTS, NOTHING_DONE, spoil, take_fault
from app.sandbox.jobs import ENDED, Job
from app.sandbox.scripts import plan_for

LOOK_SECONDS = 0.005
FOREIGN_ORIGIN = "http://elsewhere.invalid"
SHORTEST_DEADLINE_SECONDS = 0.1  # FAL.md 1.7
REMEMBERED_HEADERS = (
    "x-fal-request-start-timeout",
    "x-fal-request-timeout",
    "x-fal-queue-priority",
    "x-fal-runner-hint",
    "x-fal-no-retry",
    "x-fal-store-io",
    "x-fal-tags",
    "x-fal-object-lifecycle-preference",
    "x-app-fal-disable-fallback",
    "user-agent",
)
# Keys that are refused, whatever they ask for.
SCRIPTED_KEYS = {"sandbox-unknown": "401", "sandbox-locked": "403-locked", "sandbox-busy": "429"}


def refuse_key(call: Call) -> Answer | None:
    """Return the refusal of a missing or scripted key, None for any other: this fal knows no accounts."""
    key = call.key()
    if not key:
        return platform_error(401, "Authentication is required to access this application.")
    name = SCRIPTED_KEYS.get(key.partition(":")[0])
    return FAULTS[name](NOTHING_DONE) if name else None


async def answer_submit(box: Box, call: Call) -> Answer:
    """Accept a job, or refuse it, or do the one and say the other."""
    box.calls["submit"] += 1
    given = read_json(await call.body())
    prompt = given.get("prompt") if isinstance(given, dict) else None
    fault = take_fault(box.faults, "submit", prompt)
    if fault is None:
        return await _submit(box, call, given)
    return await spoil(fault, lambda: _submit(box, call, given))


def read_json(body: bytes) -> Any:
    """Return the JSON of a body, or an `Answer` that refuses what is none."""
    try:
        return json.loads(body)
    except ValueError:
        return platform_error(400, "The body is not JSON", "bad_request")


async def _submit(box: Box, call: Call, given: Any) -> Answer:
    refusal = refuse_key(call) or _refuse_path(call.path)
    if refusal or isinstance(given, Answer):
        return refusal or given
    try:
        deadline = _start_deadline(call)
    except ValueError:
        return platform_error(400, "The start timeout is not a number of seconds", "bad_request")
    plan = plan_for(given.get("prompt") if isinstance(given, dict) else None)
    if not plan.accepted:
        return FAULTS[plan.refusal](NOTHING_DONE)
    job = box.accept(
        call.path,
        given,
        origin=origin_of(box, call),
        key_fingerprint=call.key_fingerprint(),
        headers=_remembered(call),
        deadline=deadline,
        webhook_url=call.query().get("fal_webhook", "") if call.scope["query_string"] else "",
    )
    if plan.answered_late:
        await _wait_until_told(box, job)
    right = _tell_accepted(box, job)
    return FAULTS[plan.refusal](right) if plan.refusal else right


async def _wait_until_told(box: Box, job: Job) -> None:
    webhook = box.outbox.webhooks.get(job.request_id)
    while job.request_id in box.jobs:
        is_told = webhook is None or webhook.tries > 0 or webhook.state == "dropped"
        if is_told and job.status_at(box.read_clock()) == ENDED:
            return
        await asyncio.sleep(LOOK_SECONDS)


def origin_of(box: Box, call: Call) -> str:
    """Return the sandbox's own address as the caller knows it."""
    return box.settings.public_url or f"http://{call.header(b'host')}"


def urls_of(job: Job) -> dict[str, str]:
    """Return the three URLs of a job, by its alias alone (FAL.md 1.2)."""
    origin = FOREIGN_ORIGIN if job.plan.foreign_urls else job.origin
    base = f"{origin}/{job.alias}/requests/{job.request_id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def _tell_accepted(box: Box, job: Job) -> Answer:
    content = {
        "status": "IN_QUEUE",
        "request_id": job.request_id,
        **urls_of(job),
        "queue_position": box.queue_position(job, job.arrived),
    }
    return json_answer(200, content, request_id=job.request_id)


def _refuse_path(path: str) -> Answer | None:
    if is_served(path):
        return None
    rest = path.removeprefix(alias_of(path)) or f"/{path}"
    return platform_error(404, f"Path {rest} not found", headers=((b"x-fal-billable-units", b"0"),))


def _start_deadline(call: Call) -> float:
    given = call.header(b"x-fal-request-start-timeout") or call.header(b"x-fal-request-timeout")
    seconds = float(given) if given else inf
    if not seconds >= SHORTEST_DEADLINE_SECONDS:
        raise ValueError(given)
    return seconds


def _remembered(call: Call) -> dict[str, str]:
    headers = {name: value for name in REMEMBERED_HEADERS if (value := call.header(name.encode()))}
    if call.scope["query_string"]:
        headers["(query)"] = call.scope["query_string"].decode("latin-1")
    return headers

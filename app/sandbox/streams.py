"""A job's status as server-sent events (FAL.md 1.4)."""

import asyncio

from app.sandbox.answers import encode_json
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.jobs import ENDED, Job
from app.sandbox.reads import describe_status, wants_logs

LOOK_SECONDS = 0.05
COMMENT_SECONDS = 15.0
HEADERS = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"))


async def stream_status(box: Box, call: Call, job: Job) -> None:
    """Send each new status, a comment now and then, and close after COMPLETED."""
    identity = (b"x-fal-request-id", job.request_id.encode())
    await call.send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, identity]})
    events = asyncio.create_task(_send_events(box, call, job))
    gone = asyncio.create_task(_wait_until_gone(call))
    await asyncio.wait({events, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not events.done():
        events.cancel()


async def _send_events(box: Box, call: Call, job: Job) -> None:
    with_logs = wants_logs(call)
    last, quiet_seconds = b"", 0.0
    while True:
        content = describe_status(box, job, box.read_clock(), with_logs=with_logs)
        event = encode_json(content)
        if event != last:
            last, quiet_seconds = event, 0.0
            await _send(call, b"data: " + event + b"\n\n")
        elif quiet_seconds >= COMMENT_SECONDS:
            quiet_seconds = 0.0
            await _send(call, b": still here\n\n")
        if content["status"] == ENDED:
            await call.send({"type": "http.response.body", "body": b""})
            return
        await asyncio.sleep(LOOK_SECONDS)
        quiet_seconds += LOOK_SECONDS


async def _send(call: Call, text: bytes) -> None:
    await call.send({"type": "http.response.body", "body": text, "more_body": True})


async def _wait_until_gone(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass

"""Sends webhooks: the one thing in the sandbox that runs by itself, for as long as the process."""

import asyncio
import time
from math import inf

import httpx

from app.sandbox.box import Box
from app.sandbox.outbox import Try, Webhook

SHORTEST_SLEEP_SECONDS = 0.001
MOST_AT_ONCE = 100


async def send_webhooks(box: Box) -> None:
    """Send what is due, for ever; wakes at the next moment that is known, or when the outbox changes."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=MOST_AT_ONCE)
    turns = asyncio.Semaphore(MOST_AT_ONCE)
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        while True:
            box.outbox.changed.clear()
            moment = box.read_clock()
            for webhooks in box.outbox.take_due(moment):
                group.create_task(_send_in_turn(box, client, turns, webhooks))
            await _wait(box, moment)


async def _wait(box: Box, moment: float) -> None:
    simulated = box.next_moment() - moment
    seconds = None
    if simulated < inf and box.clock.speed:
        seconds = max(simulated / box.clock.speed, SHORTEST_SLEEP_SECONDS)
    try:
        async with asyncio.timeout(seconds):
            await box.outbox.changed.wait()
    except TimeoutError:
        return


async def _send_in_turn(box: Box, client: httpx.AsyncClient, turns: asyncio.Semaphore, webhooks: list[Webhook]) -> None:
    for webhook in webhooks:
        copies = (_try(box, client, turns, webhook) for _ in range(box.outbox.habits.copies))
        codes = [code for code in await asyncio.gather(*copies) if code is not None]
        # One copy that arrived is a delivery, whatever became of the others.
        webhook.note(min(codes, default=None), box.read_clock())
        box.outbox.put(webhook)


async def _try(box: Box, client: httpx.AsyncClient, turns: asyncio.Semaphore, webhook: Webhook) -> int | None:
    async with turns:
        return await _post(box, client, webhook)


async def _post(box: Box, client: httpx.AsyncClient, webhook: Webhook) -> int | None:
    habits, user_id = box.outbox.habits, box.account.user_id
    body = webhook.body(with_payload=habits.payload)
    signature = box.keys.sign(body, request_id=webhook.job.request_id, user_id=user_id)
    headers = {"content-type": "application/json", "user-agent": "fal-webhook/sandbox", **signature}
    sent_at, status, error = time.time(), None, None
    try:
        async with asyncio.timeout(habits.timeout_seconds):
            status = (await client.post(webhook.url, content=body, headers=headers, timeout=None)).status_code
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as failure:
        error = type(failure).__name__
    except AttributeError:  # of a receiver that resets the connection as soon as it stands: anyio 4.16 under uvloop
        error = httpx.ConnectError.__name__
    number = webhook.tries + 1
    box.outbox.tries.append(Try(webhook.job.request_id, webhook.url, number, user_id, sent_at, status, error))
    return status

"""Calls as fal's clients make them."""

import asyncio
from typing import Any

import httpx

from tests.gateway import Gateway, Person

TEXT = "fal-ai/kling-video/v2.1/master/text-to-video"
IMAGE = "fal-ai/kling-video/v2.1/master/image-to-video"
ALIAS = "fal-ai/kling-video"
_REMEMBERED = """
SELECT (SELECT count(*) FROM idempotency_keys WHERE user_id = $1)
     + (SELECT count(*) FROM direct_calls WHERE user_id = $1)
"""


def key(person: Person) -> dict[str, str]:
    """The header as both clients send it."""
    return {"Authorization": f"Key {person.secret}"}


async def submit(
    gateway: Gateway, person: Person, body: Any = None, *, query: str = "", endpoint: str = TEXT, **headers: str
) -> httpx.Response:
    """POST to the queue; header names with underscores for hyphens, their values as bytes of latin-1."""
    given = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    given.append((b"Authorization", f"Key {person.secret}".encode()))
    content = {"prompt": "a boat"} if body is None else body
    return await gateway.client.post(f"/fal/{endpoint}{query}", json=content, headers=given)


async def row(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """The job's row."""
    async with gateway.wiring.db.plain() as plain:
        return dict(await plain.fetchrow("SELECT * FROM jobs WHERE id = $1", request_id.removeprefix("job_")) or {})


async def jobs_of(gateway: Gateway, person: Person) -> int:
    async with gateway.wiring.db.plain() as plain:
        return int(await plain.fetchval("SELECT count(*) FROM jobs WHERE user_id = $1", person.user_id[5:]))


async def remembered(gateway: Gateway, person: Person) -> int:
    """How many idempotency keys and direct calls are stored for this user."""
    async with gateway.wiring.db.plain() as plain:
        return int(await plain.fetchval(_REMEMBERED, person.user_id[5:]))


async def until_remembered(gateway: Gateway, person: Person, count: int) -> None:
    """Wait for it: a caller may have its answer a moment before."""
    for _ in range(500):
        if await remembered(gateway, person) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(await remembered(gateway, person))


def refusal(answer: httpx.Response, status: int, error_type: str) -> dict[str, Any]:
    """The body of a refusal that must be this one, with everything that both clients read."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-fal-request-id"]
    assert answer.headers["x-fal-error-type"] == error_type
    body: dict[str, Any] = answer.json()
    assert body["error_type"] == error_type
    assert body["detail"] == body["message"]
    assert isinstance(body["detail"], str)
    return body


def entries(answer: httpx.Response) -> list[dict[str, Any]]:
    """The entries of fal's `detail` for bad input."""
    assert answer.status_code == 422, answer.text[:500]
    assert answer.headers["x-fal-request-id"]
    assert answer.json()["message"]
    found: list[dict[str, Any]] = answer.json()["detail"]
    assert found
    return found

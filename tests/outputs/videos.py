"""Jobs that have ended, without a fal to end them."""

import json
from typing import Any

import httpx

from tests.gateway import Gateway, Person


async def make_job(gateway: Gateway, person: Person, url: str | None, status: str = "succeeded", **video: Any) -> str:
    """A job that has ended so, with its video there; its id."""
    job_id = str((await gateway.submit(person)).json()["id"])
    output = None if url is None else json.dumps({"video": {"url": url, **video}})
    async with gateway.wiring.db.plain() as plain:
        await plain.execute(
            "UPDATE jobs SET status = $2, output = $3::json, finished_at = now(), charged_usd = 0, held_usd = 0,"
            " next_check_at = NULL, expires_at = now() + interval '7 days' WHERE id = $1",
            job_id[4:], status, output,
        )  # fmt: skip
    return job_id


async def fetch(gateway: Gateway, job_id: str, *, method: str = "GET", **options: Any) -> httpx.Response:
    """Its content."""
    return await gateway.client.request(method, f"/v1/jobs/{job_id}/content", **options)

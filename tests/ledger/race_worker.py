"""One process of a race: it waits for the start, submits, and prints the statuses it got as JSON.

Run as `python -m tests.ledger.race_worker URL SECRET COUNT`; the race begins when a line comes in.
"""

import asyncio
import collections
import json
import sys

import httpx


async def race(url: str, secret: str, count: int) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {secret}"}
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False, limits=limits) as client:
        await client.get("/health/live")
        print("ready", flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.readline)
        asks = (client.post("/v1/text-to-video", json={"prompt": "a race"}) for _ in range(count))
        answers = await asyncio.gather(*asks)
    return dict(collections.Counter(str(answer.status_code) for answer in answers))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(race(sys.argv[1], sys.argv[2], int(sys.argv[3])))))  # noqa: T201

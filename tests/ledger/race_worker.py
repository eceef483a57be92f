"""One process of many in a race: for each line `URL SECRET COUNT` it submits so often at once, and prints what it got.

Run as `python -m tests.ledger.race_worker`; ends when its standard input does.
"""

import asyncio
import collections
import json
import sys

import httpx

LIMITS = httpx.Limits(max_connections=100, keepalive_expiry=1)  # uvicorn closes an idle connection after 5 s


async def race(client: httpx.AsyncClient, url: str, secret: str, count: int) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {secret}"}
    asks = (client.post(f"{url}/v1/text-to-video", json={"prompt": "a race"}, headers=headers) for _ in range(count))
    answers = await asyncio.gather(*asks)
    return dict(collections.Counter(str(answer.status_code) for answer in answers))


async def main() -> None:
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=LIMITS) as client:
        print("ready", flush=True)  # noqa: T201
        while line := await asyncio.to_thread(sys.stdin.readline):
            url, secret, count = line.split()
            print(json.dumps(await race(client, url, secret, int(count))), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())

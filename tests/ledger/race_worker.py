"""One process of many in a race: for each line `URL SECRET COUNT` it submits so often at once, and prints what it got.

Run as `python -m tests.ledger.race_worker`; ends when its standard input does. It speaks HTTP by itself: a client's
imports, and its work, would be most of what the race costs.
"""

import asyncio
import collections
import json
import sys
from urllib.parse import urlsplit

BODY = b'{"prompt": "a race"}'


async def submit(host: str, port: int, secret: str) -> str:
    """The status that one submit is answered with, on a connection of its own."""
    head = (
        f"POST /v1/text-to-video HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode() + BODY)
    answer = await reader.read()
    writer.close()
    return answer.split(b" ", 2)[1].decode()


async def race(url: str, secret: str, count: int) -> dict[str, int]:
    at = urlsplit(url)
    asks = (submit(str(at.hostname), int(at.port or 80), secret) for _ in range(count))
    return dict(collections.Counter(await asyncio.gather(*asks)))


async def main() -> None:
    print("ready", flush=True)  # noqa: T201
    while line := await asyncio.to_thread(sys.stdin.readline):
        url, secret, count = line.split()
        print(json.dumps(await race(url, secret, int(count))), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())

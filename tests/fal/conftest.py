"""A queue client for each test, closed at its end."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from app.fal import Queue

# a canary: no test lets it out of FAL_QUEUE_URL
FAL_KEY = "1f2e3d4c-0000-4000-8000-canarycanary:c4n4ryc4n4ryc4n4ryc4n4ryc4n4ry00"

OpenQueue = Callable[..., Queue]


@pytest.fixture
async def open_queue(roots: ssl.SSLContext) -> AsyncIterator[OpenQueue]:
    async with AsyncExitStack() as closing:

        def open_one(
            url: str,
            *,
            connect_seconds: float = 5,
            read_seconds: float = 5,
            max_concurrent: int = 50,
            tls: ssl.SSLContext | None = None,
        ) -> Queue:
            queue = Queue(
                fal_key=SecretStr(FAL_KEY),
                queue_url=url,
                connect_seconds=connect_seconds,
                read_seconds=read_seconds,
                max_concurrent=max_concurrent,
                tls=tls or roots,
            )
            closing.push_async_callback(queue.aclose)
            return queue

        yield open_one

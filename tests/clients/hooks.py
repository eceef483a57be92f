"""Where webhooks are sent to: each path keeps what it is told, and gives it to whoever asks for it."""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from .serving import Message, Receive, Send, read_body

_SECONDS = 20.0


@dataclass
class _Told:
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class Hooks:
    """POST by fal or the gateway; GET waits for it, and answers `{headers: their names, body}`."""

    def __init__(self) -> None:
        self.told: defaultdict[str, _Told] = defaultdict(_Told)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        told = self.told[scope["path"]]
        content: Any = None
        if scope["method"] == "POST":
            told.body = await read_body(receive)
            told.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            told.arrived.set()
        else:
            async with asyncio.timeout(_SECONDS):
                await told.arrived.wait()
            names = sorted(name for name in told.headers if name.startswith("x-fal-"))
            content = {"headers": names, "body": json.loads(told.body)}
        body = json.dumps(content).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

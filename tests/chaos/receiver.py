"""A caller's receiver of webhooks: it checks signatures, keeps what it was told, and is not always well."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from standardwebhooks import Webhook, WebhookVerificationError


class Delivery(NamedTuple):
    """One that arrived; `type` and `data` as they stood in it."""

    id: str
    type: str
    data: dict[str, Any]
    age: int


class Receiver:
    """`by_job`: what arrived about each job, in order. `secrets` are believed."""

    def __init__(self) -> None:
        self.by_job: defaultdict[str, list[Delivery]] = defaultdict(list)
        self.forged: list[str] = []
        self.secrets: set[str] = set()
        self.url = ""
        self.is_well = False
        """Whether every delivery is taken, as one after a long soak has to be."""
        self.age = 0
        """As `Callers.age`: what came before the gateway's memory was put back may come again as another."""
        self._came = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer; of seven, one is refused and one gets no answer."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers["content-length"]))
            self._came += 1
            if self._came % 7 == 3 and not self.is_well:
                writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            else:
                self._keep(headers, body)
                if self._came % 7 != 5 or self.is_well:
                    writer.write(b"HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender was killed
        finally:
            writer.close()

    def _keep(self, headers: dict[str, str], body: bytes) -> None:
        if not any(_is_signed(secret, body, headers) for secret in self.secrets):
            self.forged.append(f"{headers.get('webhook-id')} is not signed with a secret of ours")
            return
        told = json.loads(body)
        self.by_job[told["data"]["id"]].append(Delivery(headers["webhook-id"], told["type"], told["data"], self.age))


def _is_signed(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


@asynccontextmanager
async def run_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with await asyncio.start_server(receiver.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        receiver.url = f"http://127.0.0.1:{port}/told"
        yield receiver

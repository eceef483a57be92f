"""fal's request list as a test scripts it, and the turns of whoever asks it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from app.fal import Erased, Listed, ListedRequest, Trouble, UnitPrices


class ScriptedList:
    """Names what a test has put on it; `trouble` makes it unreadable, for all or for one request alone."""

    longest_seconds = 40.0
    reads_balance = False
    erases_payloads = False

    def __init__(self) -> None:
        self.named: dict[str, tuple[str, ListedRequest]] = {}
        self.trouble: Trouble | None = None
        self.troubles: dict[str, Trouble] = {}
        self.calls: list[str] = []
        self.during: Callable[[], Awaitable[None]] | None = None

    def name(
        self,
        fal_request_id: str,
        given: dict[str, object] | None,
        *,
        endpoint: str,
        sent_at: datetime | None = None,
        ended_at: datetime | None = None,
        code: int | None = None,
        output: dict[str, object] | None = None,
    ) -> None:
        sent_at = sent_at or datetime.now(UTC)
        self.named[fal_request_id] = (
            endpoint,
            ListedRequest(fal_request_id, sent_at, ended_at, code, given, output),
        )

    async def requests(self, endpoint: str) -> Listed | Trouble:
        self.calls.append(endpoint)
        if self.during:
            await self.during()
        without = [replace(each, input=None, output=None) for at, each in self.named.values() if at == endpoint]
        return self.trouble or Listed(tuple(without))

    async def request(self, endpoint: str, fal_request_id: str) -> ListedRequest | Trouble | None:
        self.calls.append(fal_request_id)
        at, request = self.named.get(fal_request_id, ("", None))
        return self.trouble or self.troubles.get(fal_request_id) or (request if at == endpoint else None)

    async def balance(self) -> Any:
        return Trouble("FAL_ADMIN_KEY is not set")

    async def prices(self, endpoints: Sequence[str]) -> UnitPrices | Trouble:
        self.calls += endpoints
        return self.trouble or UnitPrices({})

    async def erase_payloads(self, fal_request_id: str) -> Any:
        self.calls.append(f"erase {fal_request_id}")
        if self.during:
            await self.during()
        return self.trouble or self.troubles.get(fal_request_id) or Erased()

    async def aclose(self) -> None:
        """Nothing is open."""

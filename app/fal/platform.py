"""fal's platform API: balance, bill, request list, price list, erasing; FAL_API_URL is the one place asked."""

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import httpx
from pydantic import SecretStr

from app.fal.billing import PAGE_EVENTS, BillPage, read_bill_page
from app.fal.listed import Listed, ListedRequest, read_page
from app.fal.messages import Reply
from app.fal.outcomes import Trouble
from app.fal.paths import FalUrl
from app.fal.pricing import UnitPrices, read_prices
from app.fal.wire import Scrubber, exchange, read_transport, trust

PAGE_BYTES: Final = 20_000_000
_AT_ONCE: Final = 4
_PAGE: Final = 100
_MOST_PAGES: Final = 500


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left on fal's account, in US dollars; negative when it is overdrawn."""

    usd: Decimal


@dataclass(frozen=True, slots=True)
class Erased:
    """fal keeps neither input nor output of it: erased now, or not there any more."""


class Platform:
    """A client of fal's platform API, safe to share between tasks; closed by `aclose`.

    `admin_key` (scope ADMIN) reads the account and erases, `fal_key` all else. Each goes to `api_url` and nowhere
    else. A call never takes longer than `longest_seconds`.
    """

    def __init__(
        self,
        *,
        fal_key: SecretStr,
        admin_key: SecretStr | None,
        api_url: str,
        connect_seconds: float = 10,
        read_seconds: float = 30,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.longest_seconds = connect_seconds + read_seconds
        self.reads_balance = admin_key is not None
        self.erases_payloads = admin_key is not None
        self.reads_bill = admin_key is not None
        self._url = FalUrl(api_url)
        self._fal_key = fal_key
        self._admin_key = admin_key
        self._scrub = Scrubber(*(key for key in (fal_key, admin_key) if key is not None))
        self._timeout = httpx.Timeout(read_seconds, connect=connect_seconds, pool=connect_seconds).as_dict()
        self._transport = read_transport(trust() if tls is None else tls, _AT_ONCE)

    def __repr__(self) -> str:
        return f"Platform({str(self._url)!r})"

    async def balance(self) -> Balance | Trouble:
        """What is left on the account (FAL.md 6, `GET /account/billing`); only where there is an admin key."""
        if self._admin_key is None:
            return Trouble("FAL_ADMIN_KEY is not set")
        reply = await self._get("/account/billing", {"expand": "credits"}, self._admin_key)
        if isinstance(reply, Trouble):
            return reply
        return _read_balance(reply) or _trouble(reply)

    async def bill_page(self, since: datetime, until: datetime, cursor: str | None = None) -> BillPage | Trouble:
        """A page of what fal billed in [since, until), at most 90 days; only where there is an admin key."""
        if self._admin_key is None:
            return Trouble("FAL_ADMIN_KEY is not set")
        query = {"start": _moment_text(since), "end": _moment_text(until), "limit": str(PAGE_EVENTS)}
        more = {"expand": "auth_method", **({"cursor": cursor} if cursor else {})}
        reply = await self._get("/models/billing-events", query | more, self._admin_key)
        return reply if isinstance(reply, Trouble) else await asyncio.to_thread(read_bill_page, reply)

    async def requests(self, endpoint: str) -> Listed | Trouble:
        """All that fal's request list names of this endpoint: what has started in the last 24 h, without payloads.

        Paged to its end, or Trouble: whatever cannot be read says nothing about any request.
        """
        return await self._walk({"endpoint_id": endpoint, "limit": str(_PAGE)}, endpoint)

    async def request(self, endpoint: str, fal_request_id: str) -> ListedRequest | Trouble | None:
        """What the list says of this one, with its payloads; None when it does not name it."""
        query = {"endpoint_id": endpoint, "request_id": fal_request_id, "expand": "payloads", "limit": str(_PAGE)}
        listed = await self._walk(query, endpoint)
        if isinstance(listed, Trouble) or not listed.requests:
            return listed if isinstance(listed, Trouble) else None
        named = [request for request in listed.requests if request.fal_request_id == fal_request_id]
        return named[0] if named else Trouble("fal's request list tells of others than the one asked for")

    async def prices(self, endpoints: Sequence[str]) -> UnitPrices | Trouble:
        """What fal's price list says of these endpoints, all together within `longest_seconds`."""
        try:
            async with asyncio.timeout(self.longest_seconds):
                return await read_prices(lambda query: self._get("/models/pricing", query, self._fal_key), endpoints)
        except TimeoutError:
            return Trouble("fal's price list takes too long")

    async def erase_payloads(self, fal_request_id: str) -> Erased | Trouble:
        """Have fal erase what it keeps of a request, its videos too (FAL.md 6); only where there is an admin key.

        Input files on fal's CDN stay: others may use them. May be asked again and again.
        """
        if self._admin_key is None:
            return Trouble("FAL_ADMIN_KEY is not set")
        path = f"/models/requests/{fal_request_id}/payloads"
        reply = await self._call("DELETE", path, {}, self._admin_key)
        return reply if isinstance(reply, Trouble) else _read_erasure(reply)

    async def _walk(self, query: Mapping[str, str], endpoint: str) -> Listed | Trouble:
        found: dict[str, ListedRequest] = {}
        cursors: set[str] = set()
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            reply = await self._get(
                "/models/requests/by-endpoint", {**query, **({"cursor": cursor} if cursor else {})}, self._fal_key
            )
            page = reply if isinstance(reply, Trouble) else read_page(reply, endpoint)
            if isinstance(page, Trouble):
                return page
            for request in page.requests:
                found.setdefault(request.fal_request_id, request)
            cursor = page.next_cursor
            if cursor is None:
                return Listed(tuple(found.values()))
            if cursor in cursors:
                return Trouble("fal's request list goes round in circles")
            cursors.add(cursor)
        return Trouble(f"fal's request list has more than {_MOST_PAGES} pages")

    async def aclose(self) -> None:
        """Close every connection. The platform is not used afterwards."""
        await self._transport.aclose()

    async def _get(self, path: str, query: Mapping[str, str], key: SecretStr) -> Reply | Trouble:
        return await self._call("GET", path, query, key)

    async def _call(self, method: str, path: str, query: Mapping[str, str], key: SecretStr) -> Reply | Trouble:
        headers = httpx.Headers(
            {
                "Authorization": f"Key {key.get_secret_value()}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "falgate",
            }
        )
        request = httpx.Request(
            method, self._url.at(path, query), headers=headers, extensions={"timeout": self._timeout}
        )
        try:
            async with asyncio.timeout(self.longest_seconds):
                return await exchange(self._transport, request, most_bytes=PAGE_BYTES, scrub=self._scrub)
        except Exception as reason:  # noqa: BLE001  aiohttp's own exceptions pass its transport now and then
            return Trouble(self._scrub.reason(reason))


def _moment_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_balance(reply: Reply) -> Balance | None:
    if reply.code != httpx.codes.OK or reply.json is None:
        return None
    credit = json.loads(reply.body, parse_float=Decimal, parse_int=Decimal).get("credits")
    usd = credit.get("current_balance") if isinstance(credit, dict) else None
    return Balance(usd) if isinstance(usd, Decimal) and usd.is_finite() else None


def _read_erasure(reply: Reply) -> Erased | Trouble:
    """A 404 that is JSON is fal's own: it keeps nothing of that request. Each file may have failed by itself."""
    if reply.code == httpx.codes.NOT_FOUND and reply.json is not None:
        return Erased()
    if reply.code != httpx.codes.OK or reply.json is None:
        return _trouble(reply)
    told = reply.json.get("cdn_delete_results")
    files = told if isinstance(told, list) else []
    failed = sum(isinstance(file, dict) and bool(file.get("exception")) for file in files)
    return Trouble(f"fal could not delete {failed} of its files", reply.code) if failed else Erased()


def _trouble(reply: Reply) -> Trouble:
    return Trouble(f"fal answered {reply.code}", reply.code, reply.retry_after_seconds)

"""fal's voice: webhooks signed for the jobs of a gateway, and the key set that proves them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from app.fal import Completed
from tests.conftest import settings_for
from tests.fal.signing import ACCOUNT, Signer, publishing, told
from tests.fal.wire import Server
from tests.jobs.hand import Hand, by_hand, rest

PUBLIC_URL = "https://videos.example.com"
DONE = Completed(None, None)
_FORGET_ALL = (
    """UPDATE jobs SET status = 'unconfirmed', next_check_at = NULL, gone_at = NULL, fal_request_id = NULL
       WHERE finished_at IS NULL""",
    "UPDATE attempts SET fal_request_id = NULL, stray_check_at = NULL, outcome = NULL",
    "DELETE FROM fal_webhooks",
    "DELETE FROM fal_accounts",
)


class Voice:
    """Tells a gateway, turned by hand, what became of its jobs."""

    def __init__(self, hand: Hand, fal: Signer, keys: Server) -> None:
        self.hand = hand
        self.fal = fal
        self.keys = keys

    async def tell(
        self,
        attempt: str,
        request_id: str,
        body: bytes | None = None,
        *,
        signer: Signer | None = None,
        user_id: str = ACCOUNT,
        signed_id: str | None = None,
    ) -> httpx.Response:
        """A webhook to this attempt's address, true unless said otherwise."""
        body = told(request_id) if body is None else body
        now = self.hand.clock()
        headers = (signer or self.fal).sign(body, request_id=signed_id or request_id, user_id=user_id, at=now)
        return await self.hand.gateway.client.post(f"/webhooks/fal/{attempt}", content=body, headers=headers)

    async def tell_job(self, job_id: str, **members: Any) -> httpx.Response:
        """A true webhook about a job that fal has."""
        attempt = (await self.hand.attempts(job_id))[-1]
        request_id = attempt["fal_request_id"]
        return await self.tell(attempt["id"].hex, request_id, told(request_id, **members))

    async def pin(self) -> None:
        """A job goes its way, so that our account is known; it is over afterwards."""
        job_id = await self.hand.at_fal(prompt="the first")
        assert (await self.tell_job(job_id)).status_code == 200
        self.hand.fal.answer("status", DONE)
        await self.turn()
        assert await self.hand.status(job_id) == "succeeded"

    async def turn(self) -> None:
        """One turn of the tracker, of what is due by itself."""
        await self.hand.rooms.tracker._turn(100)
        await rest(self.hand.rooms.tracker.loop)

    async def kept(self) -> int:
        return int((await self.hand.sql("SELECT count(*) FROM fal_webhooks"))[0]["count"])

    async def is_due(self, job_id: str) -> bool:
        row = await self.hand.sql("SELECT next_check_at <= now() AS due FROM jobs WHERE id = $1", job_id[4:])
        return bool(row[0]["due"])

    def count(self, outcome: str) -> float:
        metrics = self.hand.gateway.wiring.metrics
        return metrics.registry.get_sample_value("falgate_fal_webhooks_total", {"outcome": outcome}) or 0


@asynccontextmanager
async def with_voice(database_url: str) -> AsyncIterator[Voice]:
    """A gateway by hand, reachable for fal, on a database that others use after it."""
    fal = Signer()
    async with publishing(fal) as keys:
        settings = settings_for(database_url, FAL_REST_URL=keys.url, PUBLIC_URL=PUBLIC_URL)
        async with by_hand(settings, shared=True) as hand:
            yield Voice(hand, fal, keys)
            for statement in _FORGET_ALL:
                await hand.sql(statement)

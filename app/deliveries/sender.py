"""The sender: claims deliveries that are due, signs and sends them, and stores what came of it."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from standardwebhooks import Webhook

from app.deliveries.claims import A_TARGET, Claimed, claim_due, give_back, store_try
from app.deliveries.fal_keys import FalSigner
from app.deliveries.post import Outcome, Post, Sending, Tried
from app.deliveries.retries import delay_seconds
from app.deliveries.secrets import SQL_LIVE, make_secret, open_secrets
from app.ids import show
from app.loop import Loop
from app.sealing import Seal, SealBroken
from app.wiring import Wiring

log = logging.getLogger("falgate.deliveries")

_PLACES: Final = 150
_SLOW_PLACES: Final = 50  # of receivers that kept us waiting: all of them together leave the others alone
_STORING: Final = 3  # connections of the pool that results may take at a time
_MOST_SLOW: Final = 10_000
_ENDED: Final[dict[Outcome, str]] = {"delivered": "delivered", "gone": "failed"}
_LIVE: Final = SQL_LIVE.format(user="$1", now="$2")


@dataclass(slots=True)
class _Lane:
    """One of two loops and how far it has gone along the targets."""

    loop: Loop
    is_slow: bool
    after: str = ""


class Sender:
    """Sends webhooks from this process, as many others may do beside it."""

    def __init__(self, wiring: Wiring, *, post: Post | None = None) -> None:
        self.loop = Loop("deliveries", self._turn, places=_PLACES, rest_seconds=0.5)
        self.slow_loop = Loop("deliveries to slow receivers", self._turn_slow, places=_SLOW_PLACES, rest_seconds=1.0)
        self._lane = _Lane(self.loop, is_slow=False)
        self._slow_lane = _Lane(self.slow_loop, is_slow=True)
        self._wiring = wiring
        self._post = post or Post(allow_private=wiring.settings.webhook_allow_private, tls=wiring.tls)
        secret_key = wiring.settings.secret_key
        self._seal = Seal(secret_key) if secret_key else None
        self.fal_signer = FalSigner(secret_key) if secret_key else None
        self._storing = asyncio.Semaphore(_STORING)
        self._sending = Counter[str]()
        self._slow: set[str] = set()

    async def _turn(self, free: int) -> int:
        return await self._take(free, self._lane)

    async def _turn_slow(self, free: int) -> int:
        return await self._take(free, self._slow_lane) if self._slow else 0

    async def _take(self, free: int, lane: _Lane) -> int:
        """Go on along the targets where the last turn ran out of places, and from the first when none is left."""
        claimed = await self._claim(free, lane)
        if not claimed and lane.after:
            lane.after = ""
            claimed = await self._claim(free, lane)
        lane.after = claimed[-1].target if len(claimed) == free else ""
        for one in claimed:
            self._sending[one.target] += 1
            lane.loop.start(self._deliver(one))
        return len(claimed)

    async def _claim(self, free: int, lane: _Lane) -> list[Claimed]:
        """A few of each target that answers, or one of each that kept us waiting; less those being sent."""
        if lane.is_slow:
            others, rooms = 0, {name: 1 - self._sending[name] for name in self._slow}
        else:
            others, rooms = A_TARGET, {name: A_TARGET - count for name, count in self._sending.items()}
            rooms |= dict.fromkeys(self._slow, 0)
        return await claim_due(
            self._wiring.db, free, after=lane.after, rooms=rooms, others=others, now=self._wiring.clock()
        )

    async def _deliver(self, claimed: Claimed) -> None:
        sending = Sending()
        try:
            tried = await self._try(claimed, sending)
            await self._keep(claimed, tried)
        except asyncio.CancelledError:
            await give_back(self._wiring.db, claimed, was_sent=sending.has_begun)
            raise
        finally:
            self._sending[claimed.target] -= 1
            if not self._sending[claimed.target]:
                del self._sending[claimed.target]
            self.loop.wake()
            self.slow_loop.wake()

    async def _try(self, claimed: Claimed, sending: Sending) -> Tried:
        now = self._wiring.clock()
        headers = await self._sign(claimed, now=now)
        if isinstance(headers, Tried):
            return headers
        try:
            return await self._post.send(claimed.url, claimed.body.encode(), headers, sending=sending, now=now)
        except Exception:
            log.exception("%s could not be tried", show("delivery", claimed.id))
            return Tried(outcome="unreachable", error="the gateway could not send it; its log says why")

    async def _sign(self, claimed: Claimed, *, now: datetime) -> dict[str, str] | Tried:
        if claimed.shape == "slack":
            return {}
        if self._seal is None or self.fal_signer is None:
            return Tried(outcome="unsigned", error="the gateway has no SECRET_KEY to sign with")
        if claimed.shape == "fal":
            return self.fal_signer.sign(claimed.body.encode(), job_id=claimed.job_id, user_id=claimed.user_id, now=now)
        sealed = claimed.sealed
        if not sealed:
            async with self._wiring.db.begin_plain() as plain:
                await make_secret(plain, self._seal, claimed.user_id, now=now)
                sealed = [row["sealed"] for row in await plain.fetch(_LIVE, claimed.user_id, now)]
        try:
            secrets = open_secrets(sealed, self._seal, claimed.user_id)
        except SealBroken:
            return Tried(
                outcome="unsigned",
                error="the webhook secret was sealed with another SECRET_KEY: POST /v1/me/webhook-secret/rotate",
            )
        made = show("delivery", claimed.id)
        signed = [Webhook(secret.get_secret_value()).sign(made, now, claimed.body) for secret in secrets]
        return {
            "webhook-id": made,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signed),
        }

    async def _keep(self, claimed: Claimed, tried: Tried) -> None:
        self._wiring.metrics.delivery_tries.labels(tried.outcome).inc()
        if tried.outcome != "timeout":
            self._slow.discard(claimed.target)
        elif len(self._slow) < _MOST_SLOW:
            self._slow.add(claimed.target)
        async with self._storing:
            await store_try(
                self._wiring.db,
                claimed,
                status=_ENDED.get(tried.outcome, "pending"),
                delay_seconds=delay_seconds(claimed.tries, asked_seconds=tried.asked_seconds),
                response_status=tried.status,
                error=tried.error,
                now=self._wiring.clock(),
            )

"""fal's balance, read ahead where FAL_ADMIN_KEY is set: for /metrics, and to warn before fal locks the account.

fal refuses everything, results too, once the balance falls below a threshold that it does not tell. The warning comes
when less is left than is held plus a margin: what was charged on the dearer of today and yesterday, so that at the same
pace somebody has a day to top it up; and never less than 10 dollars, for the threshold and for a quiet yesterday.
"""

import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from app.fal import Balance
from app.ledger.windows import local_date
from app.loop import Loop
from app.money import decimal_text
from app.wiring import Wiring

log = logging.getLogger("falgate.balance")

LEAST_MARGIN_USD: Final = Decimal(10)
_LOOK_SECONDS: Final = 5.0

# The claim: one replica a minute reads it. A figure that could not be read again is no figure.
_CLAIM: Final = """
UPDATE upstream SET balance_read_at = now()
WHERE balance_read_at IS NULL OR balance_read_at < now() - interval '1 minute' RETURNING only_row
"""
_IS_DUE: Final = "SELECT coalesce(balance_read_at < now() - interval '1 minute', true) FROM upstream"
_KEEP: Final = "UPDATE upstream SET balance_usd = $1"
_NEEDED: Final = """
SELECT (SELECT coalesce(sum(held_usd), 0) FROM jobs WHERE finished_at IS NULL) AS held_usd,
       greatest($2, (SELECT max(usd) FROM (SELECT sum(charged_usd) AS usd FROM spend_daily WHERE day >= $1 GROUP BY day)
                     AS days)) AS margin_usd
"""
_CLAIM_WARNING: Final = """
UPDATE upstream SET balance_warned_at = now()
WHERE balance_warned_at IS NULL OR balance_warned_at < now() - interval '1 hour' RETURNING only_row
"""


class BalanceWatch:
    """One a process; its loop looks whether the minute is over, and does nothing without FAL_ADMIN_KEY."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._can_read = True
        self.loop = Loop("balance", self._turn, places=1, rest_seconds=_LOOK_SECONDS)

    async def _turn(self, _free: int) -> int:
        if self._wiring.platform.reads_balance and await self._claim():
            self.loop.start(self._read())
        return 0

    async def _claim(self) -> bool:
        async with self._wiring.db.plain() as plain:
            if not await plain.fetchval(_IS_DUE):
                return False
        async with self._wiring.db.begin_plain(durable=False) as plain:
            return await plain.fetchval(_CLAIM) is not None

    async def _read(self) -> None:
        answer = await self._wiring.platform.balance()
        balance_usd = answer.usd if isinstance(answer, Balance) else None
        if not isinstance(answer, Balance) and self._can_read:
            log.warning("fal's balance cannot be read (%s): look at FAL_ADMIN_KEY, its scope is ADMIN", answer.reason)
        self._can_read = balance_usd is not None
        async with self._wiring.db.begin_plain(durable=False) as plain:
            await plain.execute(_KEEP, balance_usd)
        if balance_usd is not None:
            await self._warn_if_low(balance_usd)

    async def _warn_if_low(self, balance_usd: Decimal) -> None:
        yesterday = local_date(self._wiring.clock(), self._wiring.settings.zone) - timedelta(days=1)
        async with self._wiring.db.plain() as plain:
            needed: Any = await plain.fetchrow(_NEEDED, yesterday, LEAST_MARGIN_USD)
        held_usd, margin_usd = needed
        if balance_usd >= held_usd + margin_usd:
            return
        async with self._wiring.db.begin_plain(durable=False) as plain:
            is_ours = await plain.fetchval(_CLAIM_WARNING) is not None
        if is_ours:
            log.warning(
                "fal's balance is %s USD, %s are held and a day costs up to %s: top up at fal.ai/dashboard/billing"
                " before fal locks the account",
                decimal_text(balance_usd),
                decimal_text(held_usd),
                decimal_text(margin_usd),
            )

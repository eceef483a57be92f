"""fal's own copies of what was erased here: fal is asked to erase them too, where FAL_ADMIN_KEY is set (FAL.md 6).

A row of `erasures` is written by the transaction that erases, and claimed here until fal has done it: killed in
between, it is asked again, which does no harm.
"""

import logging
import time
from typing import Any, Final

from app import logs
from app.fal import SPEAKS_OF_US, Erased, Trouble
from app.ids import show
from app.loop import Loop
from app.wiring import Wiring

log = logging.getLogger("falgate.forget")

_AT_ONCE: Final = 2
_REST_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 60.0
_HOUR: Final = 3600.0
PAUSES_SECONDS: Final = (120.0, 600.0, _HOUR, 4 * _HOUR, 12 * _HOUR, *[24 * _HOUR] * 4)
"""Between two tries, the last one before giving up; each outlasts a call, so that it is the lease too."""

_CLAIM: Final = """
UPDATE erasures SET tries = tries + 1,
       next_try_at = now() + make_interval(secs => ($2::float8[])[least(tries + 1, cardinality($2::float8[]))])
WHERE fal_request_id IN (SELECT fal_request_id FROM erasures WHERE next_try_at <= now() ORDER BY next_try_at LIMIT $1
                         FOR UPDATE SKIP LOCKED)
RETURNING fal_request_id, job_id, tries
"""
_DONE: Final = "UPDATE erasures SET erased_at = $2, next_try_at = NULL, error = NULL WHERE fal_request_id = $1"
_FAILED: Final = """
UPDATE erasures SET error = $2, next_try_at = CASE WHEN $3::bool THEN NULL ELSE next_try_at END
WHERE fal_request_id = $1 AND erased_at IS NULL
"""


class FalCopies:
    """One a process; replicas share the work through the rows."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._quiet_until = 0.0
        self.loop = Loop("fal's copies", self._turn, places=_AT_ONCE, rest_seconds=_REST_SECONDS)

    async def _turn(self, free: int) -> int:
        if not self._wiring.platform.erases_payloads or time.monotonic() < self._quiet_until:
            return 0
        async with self._wiring.db.begin_plain(durable=False) as plain:
            rows = await plain.fetch(_CLAIM, free, PAUSES_SECONDS)
        for row in rows:
            self.loop.start(self._erase(row))
        return len(rows)

    async def _erase(self, row: Any) -> None:
        logs.job_id.set(show("job", row["job_id"]))
        outcome = await self._wiring.platform.erase_payloads(row["fal_request_id"])
        match self._wiring.metrics.saw_fal("erase", outcome):
            case Erased():
                async with self._wiring.db.begin_plain() as plain:
                    await plain.execute(_DONE, row["fal_request_id"], self._wiring.clock())
            case Trouble() as trouble:
                await self._keep(row, trouble)

    async def _keep(self, row: Any, trouble: Trouble) -> None:
        """Ask again later, or give up."""
        if (
            trouble.code is None or trouble.code in SPEAKS_OF_US
        ):  # the network, our key, our pace: others fare no better
            self._quiet_until = time.monotonic() + max(_PAUSE_SECONDS, trouble.retry_after_seconds or 0)
        is_last = row["tries"] >= len(PAUSES_SECONDS)
        async with self._wiring.db.begin_plain(durable=False) as plain:
            await plain.execute(_FAILED, row["fal_request_id"], trouble.reason, is_last)
        if is_last:
            log.warning(
                "fal does not erase what it keeps of its request %s (%s); erase it at fal, or look at FAL_ADMIN_KEY",
                row["fal_request_id"],
                trouble.reason,
            )

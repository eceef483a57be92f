"""Whether fal takes jobs at present, for all replicas alike: the one row of `upstream`, and one probe at a time.

Degraded means that fal refuses us (key, balance, too often), cannot be reached, or loses its answers. Nothing fails
then: jobs stay `queued`, callers are refused nothing. One job at a time, over all replicas, is sent to see whether it
has passed; whoever sends it has taken the probe, by a compare-and-set that is also the lease. A healthy submit costs no
statement: each process goes by what it last read, at the latest a second ago.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from app.db import Database, is_database_away
from app.fal import NotSent, RefusedUs, Trouble, Unknown

log = logging.getLogger("falgate.upstream")

LONGEST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_LOST_SECONDS: Final = 60.0  # each probe whose answer is lost leaves a job `unconfirmed`
LONGEST_ASKED_FOR_SECONDS: Final = 60
_NOTHING_TO_SEND_SECONDS: Final = 1.0
_KEY_REFUSED: Final = 401
_LOCKED: Final = 403
_TOO_OFTEN: Final = 429
_OF_READS: Final = "reads "
"""Begins the reason when fal refused a status or a result: a read that it answers ends that."""

_LOOK: Final = "SELECT reason, probe_after <= now() AS is_due FROM upstream"
_TAKE_PROBE: Final = """
UPDATE upstream SET probe_after = now() + make_interval(secs => $1)
WHERE degraded_since IS NOT NULL AND probe_after <= now()
  AND EXISTS (SELECT FROM jobs WHERE status = 'queued' AND next_check_at <= now())
RETURNING probe_after
"""
_GIVE_BACK: Final = "UPDATE upstream SET probe_after = now() + make_interval(secs => $2) WHERE probe_after = $1"
_LOCK: Final = """
SELECT reason, failures, extract(epoch FROM now() - degraded_since)::float8 AS lasted_seconds FROM upstream FOR UPDATE
"""
_FAILED: Final = """
UPDATE upstream SET degraded_since = coalesce(degraded_since, now()), reason = $1, failures = $2,
       probe_after = now() + make_interval(secs => $3)
"""
_OVER: Final = "UPDATE upstream SET degraded_since = NULL, reason = NULL, failures = 0, probe_after = NULL"

_WHAT_TO_DO: Final = {
    "key": "FAL_KEY is wrong or revoked: make one in fal's dashboard, set FAL_KEY, restart every replica",
    "locked": "fal has locked the account: top up the balance at fal.ai/dashboard/billing; if it is not that, ask fal",
    "busy": "fal is asked too often: should it last, set FAL_CONCURRENCY lower or ask fal for a higher limit",
    "refused": "fal refuses our requests whatever is in them: look at FAL_QUEUE_URL and at any proxy on the way",
    "unreachable": "fal cannot be reached: look at this machine's network, DNS and proxy, and at FAL_QUEUE_URL",
    "broken": "fal's answers are lost: look at fal's status page and the network; a job whose answer was lost is"
    " unconfirmed and is not sent again on a guess",
}

NotTaken = NotSent | RefusedUs | Unknown


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave to send jobs: all that are due, or the one of the probe, whose lease ends at `probe_until`."""

    epoch: int
    probe_until: datetime | None = None

    @property
    def is_probe(self) -> bool:
        """Whether one job may be sent, to see."""
        return self.probe_until is not None


class Upstream:
    """One a process: what it believes of the row, and how it changes it."""

    def __init__(self, db: Database, *, lease_seconds: float) -> None:
        self._db = db
        self._lease_seconds = lease_seconds
        self._reason: str | None = None
        self._has_looked = False
        self._epoch = 0
        self._lock = asyncio.Lock()

    @property
    def is_degraded(self) -> bool:
        """Whether fal did not take jobs when this process last heard of it."""
        return self._reason is not None

    async def look(self) -> None:
        """Read the row, by its primary key."""
        async with self._lock:
            await self._look()

    async def leave(self) -> Leave | None:
        """Leave to send, or None: pausing, or another is probing. Costs nothing while fal takes jobs."""
        if self._has_looked and not self.is_degraded:
            return Leave(self._epoch)
        async with self._lock:
            is_due = await self._look()
            if not self.is_degraded:
                return Leave(self._epoch)
            if not is_due:
                return None
            async with self._db.begin_plain(durable=False) as plain:
                until = await plain.fetchval(_TAKE_PROBE, self._lease_seconds)
            return None if until is None else Leave(self._epoch, until)

    async def give_back(self, leave: Leave) -> None:
        """The probe was not sent; never raises, since its lease ends by itself."""
        if leave.is_probe:
            await self._told(lambda: self._give_back(leave))

    async def took(self, leave: Leave) -> None:
        """Fal took a job, or refused it for its input. While degraded only what was sent since counts: the probe."""
        if leave.is_probe:
            await self._told(self._over)

    async def did_not_take(self, leave: Leave, outcome: NotTaken) -> None:
        """Fal took no job. What was sent before the last change, or together, fails together: that counts once."""
        if leave.epoch != self._epoch or (self.is_degraded and not leave.is_probe):
            return
        asked = outcome.retry_after_seconds if isinstance(outcome, RefusedUs) else None
        await self._fail(_reason(outcome), outcome.reason, asked_seconds=asked or 0, is_probe=leave.is_probe)

    async def refused_read(self, trouble: Trouble) -> None:
        """Fal refused to tell of a job because of us; other trouble with reads says nothing here."""
        if not self.is_degraded and trouble.code in {_KEY_REFUSED, _LOCKED}:
            kind = "key" if trouble.code == _KEY_REFUSED else "locked"
            await self._fail(_OF_READS + kind, trouble.reason)

    async def answered_read(self) -> None:
        """Fal told of a job."""
        if self._reason is not None and self._reason.startswith(_OF_READS):
            await self._told(self._over)

    async def _look(self) -> bool:
        """Returns whether a probe is due."""
        async with self._db.plain() as plain:
            row: Any = await plain.fetchrow(_LOOK)
        self._believe(row["reason"])
        self._has_looked = True
        return bool(row["is_due"])

    def _believe(self, reason: str | None) -> None:
        if (reason is None) != (self._reason is None):
            self._epoch += 1
        self._reason = reason

    async def _fail(self, reason: str, words: str, *, asked_seconds: int = 0, is_probe: bool = False) -> None:
        self._believe(reason)  # at once: nothing more is claimed while the row is written
        await self._told(lambda: self._failed(reason, words, asked_seconds, is_probe=is_probe))

    async def _told(self, telling: Callable[[], Awaitable[None]]) -> None:
        """The answer that told us must be stored whatever becomes of this."""
        try:
            async with self._lock:
                await telling()
        except Exception as error:
            if not is_database_away(error):
                raise
            log.warning("could not note how fal is doing: the database is away (%s)", type(error).__name__)

    async def _give_back(self, leave: Leave) -> None:
        async with self._db.begin_plain(durable=False) as plain:
            await plain.execute(_GIVE_BACK, leave.probe_until, _NOTHING_TO_SEND_SECONDS)

    async def _failed(self, reason: str, words: str, asked_seconds: int, *, is_probe: bool) -> None:
        async with self._db.begin_plain() as plain:
            was: Any = await plain.fetchrow(_LOCK)
            counts = is_probe or was["reason"] is None
            if counts:
                pause = max(_pause(reason, was["failures"]), min(asked_seconds, LONGEST_ASKED_FOR_SECONDS))
                await plain.execute(_FAILED, reason, was["failures"] + 1, pause)
        self._believe(reason if counts else was["reason"])
        if counts and was["reason"] != reason:
            kind = reason.removeprefix(_OF_READS)
            log.error("fal is degraded: %s (%s). Jobs wait, none fails; fal is probed.", _WHAT_TO_DO[kind], words)

    async def _over(self) -> None:
        async with self._db.begin_plain() as plain:
            was: Any = await plain.fetchrow(_LOCK)
            if was["reason"] is not None:
                await plain.execute(_OVER)
        self._believe(None)
        if was["reason"] is not None:
            log.warning("fal takes jobs again: it was degraded for %.0f seconds", was["lasted_seconds"])


def _reason(outcome: NotTaken) -> str:
    match outcome:
        case NotSent():
            return "unreachable"
        case Unknown():
            return "broken"
        case RefusedUs(code):
            return {_KEY_REFUSED: "key", _LOCKED: "locked", _TOO_OFTEN: "busy"}.get(code, "refused")


def _pause(reason: str, failures: int) -> float:
    """Seconds until the next probe after so many failed ones: none at first, then a half, doubling, with jitter."""
    if failures == 0:
        return 0.0
    longest = LONGEST_PAUSE_LOST_SECONDS if reason == "broken" else LONGEST_PAUSE_SECONDS
    return min(longest, 0.5 * 2.0 ** min(failures - 1, 10) * random.uniform(0.75, 1.25))  # noqa: S311

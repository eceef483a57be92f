"""The breaker: not more than so many dollars leave for fal within any hour, in all and for each user. Others wait.

What has left is counted from attempts, at the quotes of their jobs, each time that jobs are claimed and under the lock
by which they are (`release`), so that any number of replicas stay below the limits together. An attempt of which it is
known that fal never had it, or refused it, does not count.

It waits in order. A user's oldest job that does not fit holds back that user's later ones, and the job whose turn it is
holds back everybody when it does not fit what is left for all: else cheap jobs would for ever be let past a dear one. A
job dearer than a limit goes alone: when nothing else was sent within the hour.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.db import Plain
from app.money import ZERO, decimal_text
from app.settings import Settings

log = logging.getLogger("falgate.breaker")

OPEN_FOR: Final = "interval '1 minute'"
"""So long after it last held something back it counts as open."""

_SPENT: Final = """
SELECT j.user_id, sum(j.quoted_usd) AS usd FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.sent_at > now() - interval '1 hour'
  AND (a.outcome IS NULL OR a.outcome NOT IN ('not_sent', 'refused', 'refused_us', 'absent'))
GROUP BY j.user_id
"""
_QUOTES: Final = "SELECT id, quoted_usd FROM jobs WHERE id = ANY($1)"
_NOTE: Final = f"""
UPDATE upstream u SET breaker_at = CASE WHEN $1 THEN now() ELSE u.breaker_at END,
       breaker_users_at = CASE WHEN $2 > 0 THEN now() ELSE u.breaker_users_at END, breaker_users = $2
FROM (SELECT coalesce(breaker_at > now() - {OPEN_FOR}, false) AS was_open,
             coalesce(breaker_users_at > now() - {OPEN_FOR}, false) AS had_paused FROM upstream FOR UPDATE) was
WHERE $1 AND coalesce(u.breaker_at < now() - interval '10 seconds', true)
   OR $2 > 0 AND (coalesce(u.breaker_users_at < now() - interval '10 seconds', true) OR u.breaker_users <> $2)
RETURNING $1 AND NOT was_open AS opens, $2 > 0 AND NOT had_paused AS pauses
"""  # noqa: S608  ours


@dataclass(frozen=True, slots=True)
class Limits:
    """Dollars an hour: for the whole gateway, and for each user; None: no limit."""

    usd: Decimal | None
    user_usd: Decimal | None


def limits_of(settings: Settings) -> Limits | None:
    """What is set; None without a breaker."""
    if settings.breaker_usd_per_hour is None and settings.breaker_user_usd_per_hour is None:
        return None
    return Limits(settings.breaker_usd_per_hour, settings.breaker_user_usd_per_hour)


class Breaker:
    """What may go in one claim: first of each user's jobs, then of all that were picked of those."""

    def __init__(self, limits: Limits, spent: Mapping[UUID, Decimal]) -> None:
        self._limits = limits
        self._quotes: Mapping[UUID, Decimal] = {}
        self._of_user = defaultdict[UUID, Decimal](lambda: ZERO, spent)
        self._of_all = sum(spent.values(), ZERO)
        self._last_of: dict[UUID, UUID | None] = {}
        self.paused: set[UUID] = set()
        self.is_open = False

    @property
    def is_spent_up(self) -> bool:
        """Whether what is left for all is nothing."""
        return self._limits.usd is not None and self._of_all >= self._limits.usd

    @property
    def spent_up(self) -> list[UUID]:
        """The users who have nothing left: of theirs it is enough to look at the next."""
        limit = self._limits.user_usd
        return [] if limit is None else [user_id for user_id, usd in self._of_user.items() if usd >= limit]

    async def read_quotes(self, plain: Plain, waiting: Sequence[UUID]) -> None:
        """What these jobs cost; before `of_user` and `of_all` are asked about them."""
        rows: list[Any] = await plain.fetch(_QUOTES, waiting)
        self._quotes = {row["id"]: row["quoted_usd"] for row in rows}

    def of_user(self, user_id: UUID, waiting: Sequence[UUID]) -> Sequence[UUID]:
        """The first of a user's jobs, as far as they fit; a user with jobs in two teams has one limit."""
        if user_id in self._last_of:
            return ()
        for place, job_id in enumerate(waiting):
            if not _fits(self._of_user[user_id], self._quotes[job_id], self._limits.user_usd):
                self._last_of[user_id] = waiting[place - 1] if place else None
                return waiting[:place]
            self._of_user[user_id] += self._quotes[job_id]
        return waiting

    def of_all(self, picked: Sequence[UUID]) -> Sequence[UUID]:
        """The first of those whose turn it is, as far as they fit.

        Paused is a user whose last job that fits is among them: whose others wait for a slot is not.
        """
        for place, job_id in enumerate(picked):
            if not _fits(self._of_all, self._quotes[job_id], self._limits.usd):
                self.is_open = True
                picked = picked[:place]
                break
            self._of_all += self._quotes[job_id]
        going = {None, *picked}
        self.paused = {user_id for user_id, last in self._last_of.items() if last in going}
        return picked

    async def note(self, plain: Plain) -> None:
        """Write down what is held back, for /metrics; the first of all replicas to see it says so."""
        if not self.is_open and not self.paused:
            return
        row: Any = await plain.fetchrow(_NOTE, self.is_open, len(self.paused))
        if row is not None and row["opens"] and self._limits.usd is not None:
            log.warning(
                "the breaker has tripped: %s USD an hour are being sent to fal (BREAKER_USD_PER_HOUR); jobs wait",
                decimal_text(self._limits.usd),
            )
        if row is not None and row["pauses"] and self._limits.user_usd is not None:
            log.warning(
                "the breaker has tripped for %d users: %s USD an hour each (BREAKER_USER_USD_PER_HOUR); jobs wait",
                len(self.paused),
                decimal_text(self._limits.user_usd),
            )


async def read_breaker(plain: Plain, limits: Limits) -> Breaker:
    """The breaker as it stands. RELEASE_LOCK must be held, by a statement before this one."""
    spent: list[Any] = await plain.fetch(_SPENT)
    return Breaker(limits, {row["user_id"]: row["usd"] for row in spent})


def _fits(spent: Decimal, usd: Decimal, limit: Decimal | None) -> bool:
    return limit is None or spent == 0 or spent + usd <= limit

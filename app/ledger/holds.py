"""Placing holds: lock the windows, decide in arrival order, raise what was decided."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from app.db import Plain
from app.ledger.entries import sql_booked_at
from app.ledger.quotas import (
    SQL_APPLYING,
    Applied,
    BySubject,
    Holder,
    Metric,
    applying_arguments,
    by_subject,
    windows_at,
)
from app.money import ONE, ZERO, decimal_text
from app.problems import Problem

IN_FLIGHT_RETRY_SECONDS: Final = 5


class QuotaExceeded(Problem):
    """A quota would be exceeded, and waiting a moment will not help.

    `quotas` names every quota that blocks: what is `used` and `held`, what this job `requested`, what is left
    (`remaining`) and when the window ends. Ask for less, wait for `window_ends_at`, or ask whoever keeps the quotas
    to raise one. Nothing was promised.
    """

    status = 402


class TooManyInFlight(Problem):
    """As many jobs are under way as this quota allows; `queued` ones count.

    Send it again when one has ended: `Retry-After` suggests when. `quotas` names every quota that blocks.
    """

    status = 429


class TooManyJobs(Problem):
    """A quota per minute is used up.

    Send it again after `Retry-After` seconds, when the next minute's window has begun. `quotas` names every quota
    that blocks.
    """

    status = 429


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one job asks of each metric."""

    usd: Decimal
    seconds: Decimal

    def of(self, metric: Metric) -> Decimal:
        """Dollars, seconds, or one job."""
        return self.usd if metric == "usd" else self.seconds if metric == "seconds" else ONE


@dataclass(slots=True)
class _Level:
    """How full a locked window is, and by how much this transaction raises it."""

    used: Decimal
    held: Decimal
    raise_used: Decimal = ZERO
    raise_held: Decimal = ZERO


_LOCK_APPLYING: Final = f"""
WITH applying AS MATERIALIZED ({SQL_APPLYING}), locked AS MATERIALIZED (
    SELECT u.id, u.used, u.held FROM quota_usage u WHERE u.id IN (SELECT usage_id FROM applying)
    ORDER BY u.id FOR UPDATE
)
SELECT a.*, l.used, l.held FROM applying a LEFT JOIN locked l ON l.id = a.usage_id
"""  # noqa: S608  ours


class Guard:
    """The locked windows of a transaction. `take` decides; what it took, `raised` hands to SQL_PLACE_HOLDS."""

    def __init__(self, levels: dict[UUID, _Level]) -> None:
        self._levels = levels

    def take(self, applied: Sequence[Applied], amounts: Amounts, *, now: datetime) -> list[UUID]:
        """Promise `amounts` from every quota that applies, or from none; returns the windows it is held in.

        Raises QuotaExceeded, TooManyInFlight or TooManyJobs, with every quota that blocks.
        """
        blocking = [quota for quota in applied if not self._fits(quota, amounts)]
        if blocking:
            raise refusal([self.show(quota, amounts) for quota in blocking], now=now)
        for quota in applied:
            level = self._level(quota)
            if quota.quota.metric == "jobs":  # counts acceptances: never given back, so never merely held
                level.raise_used += ONE
            else:
                level.raise_held += amounts.of(quota.quota.metric)
        return [quota.usage_id for quota in applied if quota.usage_id]

    def _level(self, applied: Applied) -> _Level:
        if applied.usage_id is None:
            message = "a window without a row cannot be held in"
            raise AssertionError(message)
        return self._levels[applied.usage_id]

    def _taken(self, applied: Applied) -> tuple[Decimal, Decimal]:
        level = self._level(applied)
        return level.used + level.raise_used, level.held + level.raise_held

    def _fits(self, applied: Applied, amounts: Amounts) -> bool:
        used, held = self._taken(applied)
        return used + held + amounts.of(applied.quota.metric) <= applied.quota.maximum

    def show(self, applied: Applied, amounts: Amounts) -> dict[str, Any]:
        """A quota that blocks, as the refusal names it."""
        used, held = self._taken(applied)
        return show_blocking(applied, amounts, used=used, held=held)

    def raised(self) -> tuple[list[UUID], list[Decimal], list[Decimal]]:
        """The windows that were taken from, and by how much `used` and `held` rise."""
        raised = [(key, level) for key, level in self._levels.items() if level.raise_used or level.raise_held]
        return (
            [key for key, _ in raised],
            [level.raise_used for _, level in raised],
            [level.raise_held for _, level in raised],
        )


async def lock_applying(
    plain: Plain, holders: Iterable[Holder], *, now: datetime, zone: ZoneInfo
) -> tuple[BySubject, Guard]:
    """Every live quota of these holders at `now`, and the guard of their windows, which are locked.

    In the order of their ids, which is the order of everybody; a quota's window that has no row yet is not among them.
    """
    windows = windows_at(now, zone)
    rows = await plain.fetch(_LOCK_APPLYING, *applying_arguments(holders, windows))
    levels = {row["usage_id"]: _Level(row["used"], row["held"]) for row in rows if row["usage_id"] is not None}
    return by_subject(rows, windows), Guard(levels)


def sql_place_holds(jobs: str, *, first: int) -> str:
    """Two CTEs: windows raised by what `Guard.raised` says (`$first` and the two after it), and the hold of each job.

    `jobs` names a CTE of the rows just inserted into `jobs`, from which a hold takes all that it says. One statement
    with that insert: a round trip is a fifth of what a submit costs.
    """
    return f"""
raised AS (
    UPDATE quota_usage u SET used = u.used + r.used, held = u.held + r.held
    FROM unnest(${first}::uuid[], ${first + 1}::numeric[], ${first + 2}::numeric[]) AS r (id, used, held)
    WHERE u.id = r.id
), held AS (
    INSERT INTO entries (id, job_id, kind, source, amount_usd, seconds, price_id, user_id, team_id, key_id, model,
                         end_user, tags, booked_at)
    SELECT id, id, 'hold', 'job', quoted_usd, seconds, price_id, user_id, team_id, key_id, model,
           end_user, tags, {sql_booked_at("created_at")}
    FROM {jobs}
)"""  # noqa: S608  both are ours


def show_blocking(applied: Applied, amounts: Amounts, *, used: Decimal, held: Decimal) -> dict[str, Any]:
    """One of the `quotas` of a refusal or an estimate; figures are decimal strings."""
    quota = applied.quota
    return {
        "quota_id": f"quota_{quota.id.hex}",
        "scope": quota.scope,
        "metric": quota.metric,
        "window": quota.window,
        "maximum": decimal_text(quota.maximum),
        "used": decimal_text(used),
        "held": decimal_text(held),
        "requested": decimal_text(amounts.of(quota.metric)),
        "remaining": decimal_text(max(ZERO, quota.maximum - used - held)),
        "window_ends_at": applied.window.ends_at,
    }


def refusal(blocking: Sequence[dict[str, Any]], *, now: datetime) -> Problem:
    """402 when waiting a moment will not help (both official clients repeat a 429), otherwise 429."""
    brief = [quota for quota in blocking if quota["metric"] == "in_flight" or quota["window"] == "minute"]
    if len(brief) < len(blocking):
        return QuotaExceeded("A quota does not allow this job; `quotas` says which and until when.", quotas=blocking)
    waits = [_wait_seconds(quota, now) for quota in brief]
    headers = {"Retry-After": str(max(waits))}
    if any(quota["metric"] == "in_flight" for quota in brief):
        return TooManyInFlight("Wait until one of the jobs under way has ended.", headers=headers, quotas=blocking)
    return TooManyJobs("Wait until the next minute has begun.", headers=headers, quotas=blocking)


def _wait_seconds(quota: dict[str, Any], now: datetime) -> int:
    if quota["window_ends_at"] is None:
        return IN_FLIGHT_RETRY_SECONDS
    return max(1, -int((now - quota["window_ends_at"]).total_seconds() // 1))

"""What the state machine believes: it only remembers what was done.

It knows nothing of windows that are remembered, filled or given back: a quota counts the jobs of its subject that were
held in its window, and that is all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.jobs.at_fal.claims import ToSend
from app.ledger.windows import Kind, window_at

from .house import Someone, id_of

ENDED = {"succeeded", "failed", "canceled"}


def total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


@dataclass
class Job:
    """What the model remembers of a job."""

    who: Someone
    end_user: str | None
    seconds: int
    usd: Decimal
    held_at: datetime
    status: str = "queued"
    charged_usd: Decimal = Decimal(0)
    charged_seconds: Decimal = Decimal(0)
    cancel: bool = False
    claimed: ToSend | None = None
    at_fal: bool = False
    row: dict[str, Any] | None = None  # as it was when it ended
    is_settled: bool = False  # by an admin who charged it
    let_go_at: datetime | None = None  # fal had it and never started it: its time in `queued` began anew

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED


@dataclass
class Quota:
    """What the model remembers of a live quota."""

    id: UUID
    scope: str
    scope_id: str | None
    metric: str
    window: Kind | None
    maximum: Decimal


@dataclass
class Model:
    """The rules: which quotas are for whom, what they count, what fits."""

    zone: Any
    jobs: dict[UUID, Job] = field(default_factory=dict)
    quotas: dict[UUID, Quota] = field(default_factory=dict)

    @staticmethod
    def subjects(who: Someone, end_user: str | None) -> dict[str, Any]:
        own = {"organization": None, "team": who.team_id, "user": who.user_id, "key": who.key_id}
        return own | ({"end_user": (who.team_id, end_user)} if end_user else {})

    def applying(self, who: Someone, end_user: str | None) -> list[Quota]:
        """A quota of one's own before the default."""
        chosen: dict[Any, Quota] = {}
        for quota in sorted(self.quotas.values(), key=lambda quota: quota.scope_id is not None):
            subject = self.subjects(who, end_user).get(quota.scope, ...)
            name = end_user if quota.scope == "end_user" else quota.scope_id and id_of(quota.scope, subject)
            if subject is not ... and quota.scope_id in {None, name}:
                chosen[quota.scope, quota.metric, quota.window] = quota
        return list(chosen.values())

    def counted(self, quota: Quota, who: Someone, end_user: str | None, now: datetime) -> tuple[Decimal, Decimal]:
        """`(used, held)`: of the jobs of this subject that were held in the window of `now`."""
        subject = self.subjects(who, end_user)[quota.scope]
        window = window_at(quota.window, now, self.zone)
        mine = [
            job
            for job in self.jobs.values()
            if self.subjects(job.who, job.end_user).get(quota.scope, ...) == subject
            and window_at(quota.window, job.held_at, self.zone) == window
        ]
        unfinished = [job for job in mine if job.is_open]
        match quota.metric:
            case "usd":
                return total(job.charged_usd for job in mine), total(job.usd for job in unfinished)
            case "seconds":
                return total(job.charged_seconds for job in mine), total(Decimal(job.seconds) for job in unfinished)
            case "jobs":
                return Decimal(len(mine)), Decimal(0)
            case _:
                return Decimal(0), Decimal(len(unfinished))

    def blocking(self, who: Someone, end_user: str | None, seconds: int, usd: Decimal, now: datetime) -> set[str]:
        asks = {"usd": usd, "seconds": Decimal(seconds), "jobs": Decimal(1), "in_flight": Decimal(1)}
        return {
            id_of("quota", quota.id)
            for quota in self.applying(who, end_user)
            if sum(self.counted(quota, who, end_user, now)) + asks[quota.metric] > quota.maximum
        }

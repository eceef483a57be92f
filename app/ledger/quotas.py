"""Which quotas apply to whom: five scopes, a quota of one's own before the default."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from app.db import Plain
from app.ledger.windows import ALWAYS, KINDS, Kind, Window, window_at

Scope = Literal["organization", "team", "user", "key", "end_user"]
Metric = Literal["usd", "seconds", "jobs", "in_flight"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose money a job is promised from."""

    team_id: UUID
    user_id: UUID
    key_id: UUID
    end_user: str | None

    def scopes(self) -> list[tuple[Scope, str, str]]:
        """`(scope, scope_id, subject)` of each quota that could apply; `scope_id` '' is the scope's default.

        An end user is its team's own: two teams may both have a visitor called 42.
        """
        held: list[tuple[Scope, str, str]] = [("organization", "", "")]
        for scope, own in (("team", self.team_id), ("user", self.user_id), ("key", self.key_id)):
            held += [(scope, "", own.hex), (scope, own.hex, own.hex)]  # type: ignore[list-item]
        if self.end_user is not None:
            subject = f"{self.team_id.hex}/{self.end_user}"
            held += [("end_user", "", subject), ("end_user", self.end_user, subject)]
        return held


@dataclass(frozen=True, slots=True)
class Quota:
    """A live quota; `scope_id` '' is the default of its scope, or the organization's."""

    id: UUID
    scope: Scope
    scope_id: str
    metric: Metric
    window: Kind | None
    maximum: Decimal
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Applied:
    """A quota as it applies to one subject now; `usage_id` is None while its window has no row."""

    quota: Quota
    subject: str
    window: Window
    usage_id: UUID | None


SQL_APPLYING: Final = """
SELECT s.scope, s.subject, q.id, q.scope_id, q.metric, q."window", q.maximum, q.created_at, u.id AS usage_id
FROM unnest($1::text[], $2::text[], $3::text[]) AS s (scope, scope_id, subject)
JOIN quotas q ON q.scope = s.scope AND q.scope_id = s.scope_id AND q.deleted_at IS NULL
LEFT JOIN quota_usage u ON u.quota_id = q.id AND u.subject = s.subject AND u.starts_at = CASE q."window"
    WHEN 'minute' THEN $4::timestamptz WHEN 'hour' THEN $5::timestamptz WHEN 'day' THEN $6::timestamptz
    WHEN 'week' THEN $7::timestamptz WHEN 'month' THEN $8::timestamptz ELSE 'epoch'::timestamptz END
"""

BySubject = Mapping[tuple[Scope, str], list[Applied]]
Windows = Mapping[str | None, Window]


async def find_applying(plain: Plain, holders: Iterable[Holder], *, now: datetime, zone: ZoneInfo) -> BySubject:
    """Every live quota of these holders with its window at `now`, by `(scope, subject)`, in one statement."""
    windows = windows_at(now, zone)
    return by_subject(await plain.fetch(SQL_APPLYING, *applying_arguments(holders, windows)), windows)


def windows_at(now: datetime, zone: ZoneInfo) -> Windows:
    """The window of each kind at `now`; of None (`in_flight`) the one that is always."""
    return {None: ALWAYS} | {kind: window_at(kind, now, zone) for kind in KINDS}


def applying_arguments(holders: Iterable[Holder], windows: Windows) -> list[Any]:
    """The arguments of SQL_APPLYING."""
    asked = sorted({scope for holder in holders for scope in holder.scopes()})
    return [
        [scope for scope, _, _ in asked],
        [scope_id for _, scope_id, _ in asked],
        [subject for _, _, subject in asked],
        *(windows[kind].starts_at for kind in KINDS if kind != "lifetime"),
    ]


def by_subject(rows: Iterable[Any], windows: Windows) -> BySubject:
    """The rows of SQL_APPLYING: of each subject what holds for it, a quota of its own before the default."""
    applied: dict[tuple[Scope, str], dict[tuple[str, str | None], Applied]] = {}
    for row in sorted(rows, key=lambda row: row["scope_id"]):  # the default first, its own replaces it
        quota = quota_of(row)
        applied.setdefault((quota.scope, row["subject"]), {})[quota.metric, quota.window] = Applied(
            quota, row["subject"], windows[quota.window], row["usage_id"]
        )
    return {subject: list(quotas.values()) for subject, quotas in applied.items()}


def applying_to(holder: Holder, found: BySubject) -> list[Applied]:
    """The quotas of one holder, out of those found for many."""
    subjects = dict.fromkeys((scope, subject) for scope, _, subject in holder.scopes())
    return [applied for subject in subjects for applied in found.get(subject, ())]


def quota_of(row: Any) -> Quota:
    """A row with the columns of quotas."""
    return Quota(
        row["id"],
        row["scope"],
        row["scope_id"],
        row["metric"],
        row["window"],
        row["maximum"],
        row["created_at"],
    )

"""Alerts: a window of a quota has reached a share of its maximum, and its team is told, once a window and share.

Who is told: of a team's quota that team, of a user's, a key's or an end user's their team, of the organization's every
team; each where its `alert_url` says. A window is told of at the highest share it has reached, and never again at that
share or a lower one, whatever becomes of the quota. What nobody was there to hear is not marked as told: a URL that is
set later hears where things stand. Windows of a minute and `in_flight` are none of it.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from app.db import Lock, Plain
from app.deliveries.outbox import store_alert
from app.ids import show
from app.ledger.quotas import Applied, quota_of
from app.ledger.usage import find_newest_job
from app.ledger.windows import Window
from app.loop import Loop
from app.money import ZERO, decimal_text
from app.wiring import Wiring

_EVERY_SECONDS: Final = 5.0
_SHARE_OF_TIME: Final = 20  # the more windows the more seldom: a twentieth of the time at most
_LATE: Final = timedelta(minutes=1)  # what a window reached at its very end is told all the same
_MOST: Final = 200  # windows at a time, each with all the teams that hear of it

_MAY_I: Final = f"""
SELECT pg_try_advisory_xact_lock({Lock.ALERTS})
   AND EXISTS (SELECT FROM teams WHERE alert_url IS NOT NULL AND archived_at IS NULL)
"""  # noqa: S608  ours
# `alert_percents` is sorted: the first share is the cheapest to ask of the many windows that are far from any.
_REACHED: Final = f"""
WITH reached AS MATERIALIZED (
    SELECT u.id AS usage_id, u.subject, u.starts_at, u.ends_at, u.used, u.held, r.percent,
           CASE WHEN q.scope IN ('user', 'key') THEN u.subject::uuid END AS subject_id,
           q.id, q.scope, q.scope_id, q.metric, q."window", q.maximum, q.created_at
    FROM quota_usage u JOIN quotas q ON q.id = u.quota_id
    CROSS JOIN LATERAL (SELECT max(p) AS percent FROM unnest(q.alert_percents) AS p
                        WHERE (u.used + u.held) * 100 >= q.maximum * p) r
    WHERE (u.ends_at > $1 OR u.ends_at IS NULL) AND q.deleted_at IS NULL AND q."window" <> 'minute'
      AND u.used + u.held > 0 AND (u.used + u.held) * 100 >= q.maximum * q.alert_percents[1]
      AND NOT EXISTS (SELECT FROM quota_alerts a WHERE a.usage_id = u.id AND a.percent >= r.percent)
), placed AS (
    SELECT r.*, coalesce(k.name, s.name, substr(r.subject, strpos(r.subject, '/') + 1)) AS called,
           coalesce(o.name, s.name) AS owner,
           CASE WHEN r.scope IN ('team', 'end_user') THEN split_part(r.subject, '/', 1)::uuid
                ELSE coalesce(s.team_id, o.team_id) END AS of_team
    FROM reached r
    LEFT JOIN users s ON r.scope = 'user' AND s.id = r.subject_id
    LEFT JOIN keys k ON r.scope = 'key' AND k.id = r.subject_id
    LEFT JOIN users o ON o.id = k.user_id
)
SELECT * FROM (
    SELECT p.*, t.id AS team_id, t.name AS team, t.alert_url, t.alert_shape, t.alert_user_id,
           dense_rank() OVER (ORDER BY p.usage_id) AS place
    FROM placed p JOIN teams t ON p.scope = 'organization' OR t.id = p.of_team
    WHERE t.alert_url IS NOT NULL AND t.archived_at IS NULL
) heard WHERE place <= {_MOST} ORDER BY usage_id, team_id
"""  # noqa: S608  ours
_MARK: Final = """
INSERT INTO quota_alerts (usage_id, percent, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING usage_id
"""
_NAME: Final = "UPDATE quota_alerts SET delivery_id = $3 WHERE usage_id = $1 AND percent = $2"

_UNITS: Final = {"usd": "USD", "seconds": "seconds of video", "jobs": "jobs"}


class Alerts:
    """One a process; one at a time looks, whichever comes first."""

    def __init__(self, wiring: Wiring, *, wake_sender: Callable[[], None]) -> None:
        self._wiring = wiring
        self._wake_sender = wake_sender
        self._not_before = 0.0
        self.loop = Loop("alerts", self._turn, places=1, rest_seconds=_EVERY_SECONDS)

    async def _turn(self, _free: int) -> int:
        began = time.monotonic()
        if began < self._not_before:
            return 0
        await self.tell()
        self._not_before = time.monotonic() + (time.monotonic() - began) * _SHARE_OF_TIME
        return 0

    async def tell(self) -> int:
        """Write a delivery for each share that was reached and each team that hears of it; returns how many."""
        now, zone = self._wiring.clock(), self._wiring.settings.zone
        told = 0
        async with self._wiring.db.begin_plain() as plain:
            if not await plain.fetchval(_MAY_I):
                return 0
            rows: list[Any] = await plain.fetch(_REACHED, now - _LATE)
            for _, of_window in groupby(rows, key=lambda row: row["usage_id"]):
                told += await _tell_of_window(plain, list(of_window), now=now, zone=zone)
        if told:
            self._wake_sender()
        return told


async def _tell_of_window(plain: Plain, rows: list[Any], *, now: datetime, zone: ZoneInfo) -> int:
    """Whoever marks the share tells of it: once, by the primary key."""
    row = rows[0]
    window = Window(row["starts_at"], row["ends_at"])
    job_id = await find_newest_job(plain, Applied(quota_of(row), row["subject"], window, row["usage_id"]))
    mark = row["usage_id"], row["percent"]
    if job_id is None or await plain.fetchval(_MARK, *mark, now) is None:
        return 0
    for heard in rows:
        slack = heard["alert_shape"] == "slack"
        delivery_id = await store_alert(
            plain,
            job_id=job_id,
            user_id=heard["alert_user_id"],
            team_id=heard["team_id"],
            url=heard["alert_url"],
            shape=heard["alert_shape"],
            body=to_json({"text": _sentence(heard, zone)} if slack else _event(heard, now)).decode(),
            now=now,
        )
    await plain.execute(_NAME, *mark, delivery_id)
    return len(rows)


def _event(row: Any, now: datetime) -> dict[str, Any]:
    """As Standard Webhooks have it; `scope_id` is whose window it is, also of a default."""
    return {
        "type": "quota.alert",
        "timestamp": now.astimezone(UTC),
        "data": {
            "quota_id": show("quota", row["id"]),
            "scope": row["scope"],
            "scope_id": _scope_id(row),
            "metric": row["metric"],
            "window": row["window"],
            "maximum": decimal_text(row["maximum"]),
            "used": decimal_text(row["used"]),
            "held": decimal_text(row["held"]),
            "remaining": decimal_text(_remaining(row)),
            "percent": row["percent"],
            "window_starts_at": row["starts_at"] if row["ends_at"] else None,
            "window_ends_at": row["ends_at"],
            "team_id": show("team", row["team_id"]),
        },
    }


def _scope_id(row: Any) -> str | None:
    if row["scope"] == "organization":
        return None
    return str(row["called"]) if row["scope"] == "end_user" else f"{row['scope']}_{row['subject']}"


def _sentence(row: Any, zone: ZoneInfo) -> str:
    """For people, in Slack's spelling: names may not write links or call everybody."""
    unit, window = _UNITS[row["metric"]], "in all" if row["window"] == "lifetime" else f"per {row['window']}"
    until = f" until {row['ends_at'].astimezone(zone):%Y-%m-%d %H:%M} {zone.key}" if row["ends_at"] else ""
    text = (
        f"{_who(row)} reached {row['percent']} % of {decimal_text(row['maximum'])} {unit} {window}:"
        f" {decimal_text(row['used'])} used, {decimal_text(row['held'])} held,"
        f" {decimal_text(_remaining(row))} left{until}."
    )
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _who(row: Any) -> str:
    match row["scope"]:
        case "organization":
            return "All teams together have"
        case "team":
            return f"Team {row['team']} has"
        case "user":
            return f"{row['called']} (team {row['team']}) has"
        case "key":
            return f"The key {row['called']} of {row['owner']} (team {row['team']}) has"
        case _:
            return f"The end user {row['called']} (team {row['team']}) has"


def _remaining(row: Any) -> Decimal:
    left: Decimal = row["maximum"] - row["used"] - row["held"]
    return max(ZERO, left)

"""/metrics, in Prometheus' text format: what there is of jobs and money from the database, the rest of this process."""

import hmac
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

from app.accounts.callers import KeyUnknown, authorization
from app.db import Plain
from app.deliveries.outbox import count_pending
from app.http import JsonRoute
from app.jobs.at_fal.breaker import OPEN_FOR
from app.jobs.ends.ended import count_ended
from app.jobs.states import WAITING
from app.money import ZERO
from app.problems import responses
from app.reports.fal_bill.runs import USUAL_PERIOD
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["health"])

_UNFINISHED: Final = """
SELECT status, count(*) AS jobs, sum(held_usd) AS held_usd,
       extract(epoch FROM now() - min(queued_at))::float8 AS oldest_seconds,
       coalesce(extract(epoch FROM now() - min(next_check_at)), 0)::float8 AS overdue_seconds
FROM jobs WHERE finished_at IS NULL GROUP BY status
"""
_CHARGED: Final = "SELECT coalesce(sum(charged_usd), 0) FROM spend_monthly"
_UPSTREAM: Final = f"""
SELECT degraded_since IS NOT NULL AS is_degraded, coalesce(breaker_at > now() - {OPEN_FOR}, false) AS breaker_is_open,
       CASE WHEN breaker_users_at > now() - {OPEN_FOR} THEN breaker_users ELSE 0 END AS users_paused,
       CASE WHEN balance_read_at > now() - interval '5 minutes' THEN balance_usd END AS balance_usd FROM upstream
"""  # noqa: S608  ours
_RECONCILED: Final = """
SELECT figures::text, greatest(extract(epoch FROM now() - started_at), 0)::float8 AS age_seconds FROM reconciliations
WHERE figures ? 'lists' AND until - since >= $1 ORDER BY id DESC LIMIT 1
"""
_TRACKED: Final = frozenset(WAITING) - {"queued"}

Sample = tuple[Mapping[str, str], Decimal | float]
NO_LABELS: Final[Mapping[str, str]] = {}


@router.get("/metrics", operation_id="get_metrics", response_class=Response, responses=responses(401, 503))
async def get_metrics(request: Request, wired: Wired) -> Response:
    """Prometheus' text format.

    Figures about jobs and dollars come from the database: there any worker answers alike. Counts of calls, requests
    and refusals are those of the process that answers.
    """
    _require_metrics_key(request, wired.settings.metrics_key)
    async with wired.db.plain() as plain:
        lines = await _of_the_database(plain)
    own = generate_latest(wired.metrics.registry).decode()
    return Response("\n".join(lines) + "\n" + own, media_type=CONTENT_TYPE_LATEST)


async def _of_the_database(plain: Plain) -> list[str]:
    rows: dict[str, Any] = {row["status"]: row for row in await plain.fetch(_UNFINISHED)}
    ended = await count_ended(plain)
    upstream: Any = await plain.fetchrow(_UPSTREAM)
    charged_usd = await plain.fetchval(_CHARGED)
    pending = await count_pending(plain)
    reconciled = await plain.fetchrow(_RECONCILED, USUAL_PERIOD)
    waiting = {status: rows[status]["jobs"] if status in rows else 0 for status in WAITING}
    oldest = rows["queued"]["oldest_seconds"] if "queued" in rows else 0.0
    overdue = max([0.0, *(row["overdue_seconds"] for status, row in rows.items() if status in _TRACKED)])
    held_usd = sum((row["held_usd"] for row in rows.values()), ZERO)
    balance_usd = upstream["balance_usd"]
    return [
        *_tell("jobs", "gauge", "Jobs that have not ended.", _by("status", waiting)),
        *_tell(
            "jobs_ended_total",
            "counter",
            "Jobs that have ended.",
            [({"model": model, "status": status}, count) for (model, status), count in sorted(ended.items())],
        ),
        *_tell("oldest_queued_seconds", "gauge", "How long the oldest queued job has waited.", _one(max(0.0, oldest))),
        *_tell("oldest_due_check_seconds", "gauge", "How late the latest check of a job at fal is.", _one(overdue)),
        *_tell("unconfirmed_jobs", "gauge", "Jobs of which fal has not told.", _one(waiting["unconfirmed"])),
        *_tell("fal_degraded", "gauge", "1 while fal takes no jobs from us.", _one(int(upstream["is_degraded"]))),
        *_tell(
            "fal_balance_usd",
            "gauge",
            "What is left on fal's account; absent while unknown.",
            [] if balance_usd is None else _one(balance_usd),
        ),
        *_tell(
            "breaker_open",
            "gauge",
            "1 while jobs wait for BREAKER_USD_PER_HOUR.",
            _one(int(upstream["breaker_is_open"])),
        ),
        *_tell(
            "breaker_users_paused",
            "gauge",
            "Users whose jobs wait for BREAKER_USER_USD_PER_HOUR.",
            _one(upstream["users_paused"]),
        ),
        *_tell("deliveries_pending", "gauge", "Webhooks to callers on their way.", _one(pending)),
        *_tell("held_usd", "gauge", "Dollars promised and not settled.", _one(held_usd)),
        *_tell("charged_usd_total", "counter", "Dollars charged.", _one(charged_usd)),
        *_tell_reconciled(reconciled),
    ]


def _tell_reconciled(run: Any) -> list[str]:
    """What the last run over its usual period found; nothing before the first."""
    lists = json.loads(run["figures"], parse_float=Decimal)["lists"] if run else None
    apart = sum((Decimal(lists[name]["apart_usd"]) for name in ("differs", "ours_only")), ZERO) if lists else ZERO

    def told(value: Decimal | float) -> list[Sample]:
        return _one(value) if lists else []

    return [
        *_tell(
            "reconciliation_drift_usd",
            "gauge",
            "By how much fal's bill and what was charged are apart, whichever way; absent before the first look.",
            told(apart),
        ),
        *_tell(
            "fal_only_usd",
            "gauge",
            "What fal billed for requests that are no jobs of ours.",
            told(Decimal(lists["fal_only"]["fal_usd"]) if lists else ZERO),
        ),
        *_tell(
            "reconciliation_age_seconds",
            "gauge",
            "How long ago fal's bill was last read.",
            told(run["age_seconds"] if run else 0.0),
        ),
    ]


def _one(value: Decimal | float) -> list[Sample]:
    return [(NO_LABELS, value)]


def _by(label: str, values: Mapping[str, int]) -> list[Sample]:
    return [({label: name}, value) for name, value in values.items()]


def _tell(name: str, kind: str, meaning: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# HELP falgate_{name} {meaning}", f"# TYPE falgate_{name} {kind}"]
    for labels, value in samples:
        told = ",".join(f'{label}="{text}"' for label, text in labels.items())
        figure = f"{value:.3f}" if isinstance(value, float) else f"{value:f}" if isinstance(value, Decimal) else value
        lines.append(f"falgate_{name}{{{told}}} {figure}" if told else f"falgate_{name} {figure}")
    return lines


def _require_metrics_key(request: Request, key: SecretStr | None) -> None:
    """Raise KeyUnknown unless METRICS_KEY is off or sent as Bearer, in the one header."""
    scheme, given = authorization(request.scope["headers"])
    if key is not None and not (scheme == b"bearer" and hmac.compare_digest(given, key.get_secret_value().encode())):
        raise KeyUnknown("Send one header `Authorization: Bearer …` with the METRICS_KEY of this gateway.")

"""Whether we live, whether we are ready, and the figures of both."""

import asyncio
import hmac
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr
from sqlalchemy import text

from app.accounts.callers import KeyUnknown, authorization
from app.http import JsonRoute
from app.money import ZERO
from app.problems import Unavailable, responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["health"])

_READY_WITHIN_SECONDS: Final = 3.0
_UNFINISHED: Final = text("""
    SELECT status, count(*) AS jobs, coalesce(sum(held_usd), 0) AS held,
           coalesce(extract(epoch FROM now() - min(created_at)), 0) AS oldest,
           coalesce(extract(epoch FROM now() - min(next_check_at)), 0) AS overdue
    FROM jobs WHERE finished_at IS NULL GROUP BY status
""")
_LIVE_STATUSES: Final = ("queued", "submitting", "submitted", "running", "unconfirmed")


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", operation_id="get_live")
async def get_live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", operation_id="get_ready", responses=responses(503))
async def get_ready(wired: Wired) -> dict[str, str]:
    """Postgres answers too."""
    try:
        async with asyncio.timeout(_READY_WITHIN_SECONDS), wired.db.reading() as tx:
            await tx.execute(text("SELECT 1"))
    except Exception as error:
        raise Unavailable("Postgres does not answer.") from error
    return {"status": "ready"}


@router.get("/metrics", operation_id="get_metrics", response_class=Response, responses=responses(401, 503))
async def get_metrics(request: Request, wired: Wired) -> Response:
    """Prometheus' text format.

    Gauges of jobs and dollars come from the database: there any worker answers alike. Counters and histograms
    are those of the process that answers.
    """
    _require_metrics_key(request, wired.settings.metrics_key)
    async with wired.db.reading() as tx:
        rows = {row.status: row for row in await tx.execute(_UNFINISHED)}
    lines = ["# HELP falgate_jobs Jobs that have not ended.", "# TYPE falgate_jobs gauge"]
    lines += [f'falgate_jobs{{status="{name}"}} {rows[name].jobs if name in rows else 0}' for name in _LIVE_STATUSES]
    held = sum((row.held for row in rows.values()), ZERO)
    overdue = max((float(row.overdue) for name, row in rows.items() if name != "unconfirmed"), default=0.0)
    oldest = float(rows["queued"].oldest) if "queued" in rows else 0.0
    for name, meaning, value in (
        ("held_usd", "Dollars promised and not settled.", f"{held:f}"),
        ("oldest_queued_seconds", "Age of the oldest queued job.", f"{oldest:.3f}"),
        ("oldest_due_check_seconds", "How overdue the most overdue check is.", f"{max(0.0, overdue):.3f}"),
    ):
        lines += [f"# HELP falgate_{name} {meaning}", f"# TYPE falgate_{name} gauge", f"falgate_{name} {value}"]
    own = generate_latest(wired.metrics.registry).decode()
    return Response("\n".join(lines) + "\n" + own, media_type=CONTENT_TYPE_LATEST)


def _require_metrics_key(request: Request, key: SecretStr | None) -> None:
    """Raise KeyUnknown unless METRICS_KEY is off or sent as Bearer, in the one header."""
    scheme, given = authorization(request.scope["headers"])
    if key is not None and not (scheme == b"bearer" and hmac.compare_digest(given, key.get_secret_value().encode())):
        raise KeyUnknown("Send one header `Authorization: Bearer …` with the METRICS_KEY of this gateway.")

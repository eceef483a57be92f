"""Rows into an explanation: the same for whoever asks over HTTP and for the command line."""

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from app.accounts.callers import Caller
from app.db import Plain
from app.ids import show
from app.jobs.reads.reach import NOT_FOUND_DETAIL
from app.ledger.quota_book import show_scope_id
from app.money import ONE, ZERO
from app.problems import NotFound
from app.reports.explanation.rows import JobRows, read_rows
from app.reports.explanation.shapes import (
    Asked,
    Attempt,
    ExplainedEntries,
    ExplainedEntry,
    Explanation,
    FalSide,
    PriceUsed,
    QuotaTouched,
    Quote,
)
from app.reports.explanation.words import arithmetic, summary, why

# That fal refused our key or balance is the operator's to know.
_OUTCOMES: Final = {
    None: "sending",
    "not_sent": "not_taken",
    "refused_us": "not_taken",
    "start_deadline": "not_started",
}


async def explain_job(
    plain: Plain, job_id: UUID, *, caller: Caller | None, limit: int, after: UUID | None = None
) -> ExplainedEntries:
    """A page of a job's entries, newest first, and on the first page what it all comes to.

    Without a caller (the command line) every job may be seen. Raises NotFound for one that is not there or not theirs.
    """
    rows = await read_rows(plain, job_id, caller=caller, limit=limit + 1, after=after)
    if rows is None:
        raise NotFound(NOT_FOUND_DETAIL)
    reckoned = arithmetic(rows.price, rows.job["seconds"]) if rows.price else None
    page = [_entry(entry, rows, reckoned) for entry in rows.entries[:limit]]
    return ExplainedEntries(
        data=page,
        next_cursor=show("entry", page[-1].id) if len(rows.entries) > limit else None,
        explanation=_explanation(rows, reckoned) if after is None else None,
    )


def _entry(entry: dict[str, Any], rows: JobRows, reckoned: str | None) -> ExplainedEntry:
    hold_id = entry["resolves_id"]
    return ExplainedEntry(
        **{name: entry[name] for name in ExplainedEntry.model_fields.keys() & entry.keys() - {"source"}},
        source=show("entry", hold_id) if hold_id else entry["source"],
        why=why(
            id_=entry["id"],
            kind=entry["kind"],
            amount_usd=Decimal(entry["amount_usd"]),
            quoted_usd=rows.job["quoted_usd"],
            reckoned=reckoned,
            mark=entry["mark"],
            note=entry["note"],
            by=entry["by"],
            booked_at=datetime.fromisoformat(entry["created_at"]),
        ),
    )


def _explanation(rows: JobRows, reckoned: str | None) -> Explanation:
    job, resolving = rows.job, rows.resolving
    sums = defaultdict(
        lambda: ZERO, {kind: usd for kind, (usd, _) in rows.sums.items() if kind not in {"hold", "void"}}
    )
    return Explanation(
        summary=summary(
            ended=resolving["kind"] if resolving else None,
            status=job["status"],
            held_usd=job["held_usd"],
            quoted_usd=job["quoted_usd"],
            sums=sums,
            note=(resolving or {}).get("note") or "",
        ),
        status=job["status"],
        charged_usd=job["charged_usd"],
        held_usd=job["held_usd"],
        asked=Asked(
            at=job["created_at"],
            **{name: job[name] for name in ("user_id", "key_id", "team_id", "team", "team_archived_at")},
        ),
        quote=Quote(
            **{name: job[name] for name in ("quoted_usd", "seconds", "model", "endpoint")},
            priced_input=dict(rows.price.when) if rows.price else {},
        ),
        price=_price(rows, reckoned),
        fal=_fal(rows),
        quotas=[_quota(window, rows) for window in rows.windows],
        payload_erased_at=job["payload_erased_at"],
    )


def _price(rows: JobRows, reckoned: str | None) -> PriceUsed | None:
    price = rows.price
    if price is None or reckoned is None:
        return None
    names = ("base_seconds", "base_usd", "usd_per_second", "starts_at")
    return PriceUsed(
        price_id=price.id,
        when=dict(price.when),
        **{name: getattr(price, name) for name in names},
        arithmetic=reckoned,
    )


def _fal(rows: JobRows) -> FalSide:
    return FalSide(
        request_id=rows.job["fal_request_id"],
        billed_units=rows.resolving["fal_units"] if rows.resolving else None,
        billed_usd=rows.job["billed_usd"],
        attempts=[
            Attempt(
                sent_at=attempt["sent_at"],
                outcome=_OUTCOMES.get(attempt["outcome"], attempt["outcome"]),
                fal_request_id=attempt["fal_request_id"],
                billed_usd=attempt["billed_usd"],
            )
            for attempt in reversed(rows.attempts)
        ],
    )


def _quota(window: dict[str, Any], rows: JobRows) -> QuotaTouched:
    requested, held, used = _taken(window["metric"], rows)
    return QuotaTouched(
        **{name: window[name] for name in ("quota_id", "scope", "metric", "window", "maximum", "deleted_at")},
        scope_id=show_scope_id(window["scope"], window["scope_id"]),
        window_starts_at=window["starts_at"] if window["ends_at"] else None,
        window_ends_at=window["ends_at"],
        requested=requested,
        held=held,
        used=used,
    )


def _taken(metric: str, rows: JobRows) -> tuple[Decimal, Decimal, Decimal]:
    """What it asked of a window of this metric, still holds there, and has used up (`app/ledger`: holds, settles)."""
    match metric:
        case "usd":
            return rows.job["quoted_usd"], rows.job["held_usd"], rows.used(0)
        case "seconds":
            seconds: Decimal = rows.job["seconds"]
            return seconds, ZERO if rows.is_ended else seconds, rows.used(1)
        case "jobs":
            return ONE, ZERO, ONE
        case _:
            return ONE, ZERO if rows.is_ended else ONE, ZERO

"""The explanation of a job as the terminal shows it: short lines, names on the left."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import Final

from app.cli.terminal import printable
from app.ids import show
from app.money import decimal_text
from app.reports.explanation.shapes import (
    Attempt,
    ExplainedEntries,
    ExplainedEntry,
    Explanation,
    PriceUsed,
    QuotaTouched,
)

_WIDTH: Final = 100
_MARGIN: Final = 10
_ALWAYS: Final = "all the time"
_METRICS: Final = {"usd": "USD", "in_flight": "jobs in flight"}


def print_explained(entries: ExplainedEntries) -> str:
    """All of it, entries oldest first; moments in UTC."""
    told = entries.explanation
    if told is None or not entries.data:
        raise AssertionError  # of a first page there is one, and no job is without its hold
    job = show("job", entries.data[0].job_id)
    parts = [
        ("asked", _asked(told)),
        ("quote", _quote(told)),
        ("price", _price(told.price)),
        ("fal", _fal(told)),
        ("entries", [line for entry in reversed(entries.data) for line in _entry(entry)]),
        ("quotas", [line for quota in told.quotas for line in _quota(quota)]),
    ]
    lines = [
        f"{job}  {told.status}",
        *_wrapped(told.summary, _WIDTH),
        *(line for name, part in parts for line in ["", *_below(name, part)]),
    ]
    return "".join(f"{printable(line).rstrip()}\n" for line in lines)


def _below(name: str, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield (name if number == 0 else "").ljust(_MARGIN) + line


def _asked(told: Explanation) -> list[str]:
    asked = told.asked
    archived = f", archived {_moment(asked.team_archived_at)}" if asked.team_archived_at else ""
    erased = [f"payload erased {_moment(told.payload_erased_at)}"] if told.payload_erased_at else []
    by = f"by {show('user', asked.user_id)}", f"with {show('key', asked.key_id)}"
    return [_moment(asked.at), *by, f"for the team {asked.team}{archived}", *erased]


def _quote(told: Explanation) -> list[str]:
    quote = told.quote
    return [f"{decimal_text(quote.quoted_usd)} USD for {quote.seconds:g} s of {quote.model}", quote.endpoint]


def _price(price: PriceUsed | None) -> list[str]:
    if price is None:
        return ["its row is no longer in the price book"]
    chosen = ", ".join(f"{name} = {value}" for name, value in price.when.items()) or "any input"
    return [price.arithmetic, f"{show('price', price.price_id)} for {chosen}", f"since {_moment(price.starts_at)}"]


def _fal(told: Explanation) -> list[str]:
    fal = told.fal
    if not fal.attempts:
        return ["never sent"]
    units = "" if fal.billed_units is None else f"billed {decimal_text(fal.billed_units)} units"
    bill = "" if fal.billed_usd is None else f"on fal's bill: {decimal_text(fal.billed_usd)} USD"
    return [*map(_attempt, fal.attempts), *filter(None, (units, bill))]


def _attempt(attempt: Attempt) -> str:
    request = f"  {attempt.fal_request_id}" if attempt.fal_request_id else ""
    return f"{_moment(attempt.sent_at)}  {attempt.outcome.replace('_', ' ')}{request}"


def _entry(entry: ExplainedEntry) -> list[str]:
    head = f"{_moment(entry.created_at)}  {entry.kind:<10}  {decimal_text(entry.amount_usd):>8}"
    return [head, *(f"  {line}" for line in _wrapped(entry.why, _WIDTH - _MARGIN))]


def _quota(quota: QuotaTouched) -> list[str]:
    window = f" a {quota.window}" if quota.window not in {None, "lifetime"} else ""
    span = (
        f"{_moment(quota.window_starts_at)} to {_moment(quota.window_ends_at)}"
        if quota.window_starts_at and quota.window_ends_at
        else _ALWAYS
    )
    deleted = f", deleted {_moment(quota.deleted_at)}" if quota.deleted_at else ""
    figures = ("requested", quota.requested), ("held", quota.held), ("used", quota.used), ("maximum", quota.maximum)
    return [
        f"{_METRICS.get(quota.metric, quota.metric)}{window}, {_whose(quota)}{deleted}",
        f"  {show('quota', quota.quota_id)}, {span}",
        "  " + ", ".join(f"{name} {decimal_text(figure)}" for name, figure in figures),
    ]


def _whose(quota: QuotaTouched) -> str:
    if quota.scope == "organization":
        return quota.scope
    if quota.scope_id is None:
        return f"each {quota.scope.replace('_', ' ')}"
    return f"end user {quota.scope_id}" if quota.scope == "end_user" else quota.scope_id


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width`; an id, which has hyphens, stays in one piece."""
    return wrap(text, width, break_on_hyphens=False, break_long_words=False)

"""What a submit would cost and whether it would be accepted now. Nothing is written."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from app.accounts.frozen import read_freezes
from app.jobs.submits.quotes import Replayed, find_callers, quote, read_prices
from app.jobs.submits.request import Submission
from app.ledger.holds import Amounts, show_blocking
from app.ledger.quotas import applying_to, find_applying
from app.ledger.usage import read_usage
from app.money import decimal_text
from app.problems import Problem
from app.wiring import Wiring


async def estimate(wiring: Wiring, submission: Submission) -> dict[str, Any]:
    """`{seconds, quoted_usd, allowed, quotas}`, and `freezes` of whoever is frozen.

    Raises KeyUnknown or ModelUnpriced, as the submit would.
    """
    now = wiring.clock()
    submission = replace(submission, idempotency_key=None)  # what a job would cost, whether it is there already or not
    async with wiring.db.plain() as plain:
        row = (await find_callers(plain, [submission], now=now))[0]
        quoted = quote(submission, row, read_prices(row["prices"]), now=now)
        if isinstance(quoted, Problem):
            raise quoted
        if isinstance(quoted, Replayed):
            raise AssertionError  # noqa: TRY004  no key, no replay
        by_subject = await find_applying(plain, [quoted.holder], now=now, zone=wiring.settings.zone)
        blocking = []
        for applied in applying_to(quoted.holder, by_subject):
            usage = await read_usage(plain, applied)
            asked = quoted.amounts.of(applied.quota.metric)
            if usage.used + usage.held + asked > applied.quota.maximum:
                blocking.append(show_blocking(applied, quoted.amounts, used=usage.used, held=usage.held))
    return _show(quoted.amounts, blocking, read_freezes(row["freezes"]))


def _show(amounts: Amounts, blocking: list[dict[str, Any]], freezes: list[dict[str, Any]]) -> dict[str, Any]:
    seconds: Decimal = amounts.seconds
    return {
        "seconds": int(seconds) if seconds == int(seconds) else float(seconds),
        "quoted_usd": decimal_text(amounts.usd),
        "allowed": not blocking and not freezes,
        "quotas": blocking,
    } | ({"freezes": freezes} if freezes else {})

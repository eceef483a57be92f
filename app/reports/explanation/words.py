"""The sentences of an explanation: why an entry was booked, how a quote was reckoned, what a job cost in the end."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from app.catalogue.prices import Price
from app.money import ZERO, decimal_text

_AS_QUOTED: Final = ": charged as quoted"
_MARKED: Final = " Reconciling with fal's bill corrects it, if that says otherwise."
_AN_INSTANT: Final = timedelta(seconds=1)


def figure(amount: Decimal) -> str:
    """Seconds and counts, as short as they are: `5`, `2.5`."""
    return f"{amount.normalize():f}"


def arithmetic(price: Price, seconds: Decimal) -> str:
    """`1.40 for the first 5 s + 5 s × 0.28 = 2.80`."""
    further = max(ZERO, seconds - price.base_seconds)
    parts = []
    if price.base_usd or not (price.usd_per_second and further):
        first = f" for the first {figure(price.base_seconds)} s" if price.base_seconds else " for any length"
        parts.append(decimal_text(price.base_usd) + first)
    if price.usd_per_second and further:
        parts.append(f"{figure(further)} s × {decimal_text(price.usd_per_second)}")
    return f"{' + '.join(parts)} = {decimal_text(price.usd(seconds))}"


def why(
    *,
    id_: UUID,
    kind: str,
    amount_usd: Decimal,
    quoted_usd: Decimal,
    reckoned: str | None,
    mark: str | None,
    note: str | None,
    by: str | None,
    booked_at: datetime,
) -> str:
    """Why an entry was booked. `reckoned` is how its job's quote was."""
    said = _said(note, by)
    match kind:
        case "hold":
            text = f"Promised when the job was accepted: {reckoned}." if reckoned else "Promised as it was quoted."
        case "settle" if amount_usd == quoted_usd:
            text = f"Charged as quoted{said or ': fal billed what was quoted.'}"
        case "settle":
            text = f"Charged {decimal_text(amount_usd)} of the {decimal_text(quoted_usd)} held{said or '.'}"
        case "void":
            text = f"Given back, nothing was charged{said or '.'}"
        case "overage":
            text = f"Charged beside the hold{said or ': fal billed another request for this job.'}"
        case _:
            lead = "Taken off what was charged" if amount_usd < 0 else "Added to what was charged"
            text = f"{lead}{said or '.'}"
    return text + (_MARKED if mark else "") + _late(id_, booked_at)


def _said(note: str | None, by: str | None) -> str:
    """The note as the end of a sentence that leads up to it, and whose word it is."""
    if note is None:
        return f", by {by}." if by else ""
    said = note.replace(_AS_QUOTED, "").rstrip(".")
    return f", by {by}: {said}." if by else f": {said}."


def _late(id_: UUID, booked_at: datetime) -> str:
    """An entry's id tells when it was made: a closed month takes no more, so it may be booked later than that."""
    made_at = datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)
    if booked_at - made_at < _AN_INSTANT:
        return ""
    return f" Booked on {booked_at.astimezone(UTC):%Y-%m-%d} (UTC), since the month of {made_at:%Y-%m-%d} was closed."


def summary(
    *, ended: str | None, status: str, held_usd: Decimal, quoted_usd: Decimal, sums: dict[str, Decimal], note: str
) -> str:
    """What it cost, in one sentence. `ended` is the kind of entry that ended its hold, `sums` what each kind booked."""
    beside = [
        f"{decimal_text(abs(sums[kind]))} {words}"
        for kind, words in (
            ("overage", "more for a request at fal that was no longer its own"),
            ("adjustment", "taken off by a correction" if sums["adjustment"] < 0 else "added by a correction"),
        )
        if sums[kind]
    ]
    more = f", and {' and '.join(beside)}" if beside else ""
    if ended is None:
        waits = " until fal or an admin says what became of it" if status == "unconfirmed" else " until the job ends"
        return f"{decimal_text(held_usd)} USD held{waits}; {_charged(beside) or 'nothing has been charged'}."
    total = f": {decimal_text(sum(sums.values(), ZERO))} USD in all" if beside else ""
    if ended == "void":
        return f"Nothing charged, {decimal_text(quoted_usd)} USD given back{_because(note)}{more}{total}."
    settled = sums["settle"]
    quoted = "as quoted" if settled == quoted_usd else f"instead of the {decimal_text(quoted_usd)} quoted"
    return f"{decimal_text(settled)} USD charged, {quoted}{more}{total}."


def _charged(beside: list[str]) -> str:
    return " and ".join(beside)


def _because(note: str) -> str:
    return f" ({note.rstrip('.')})" if note else ""

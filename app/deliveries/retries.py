"""When a delivery that failed is tried again."""

import secrets
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

DAY_SECONDS: Final = 86_400
"""How long a delivery is tried for."""

_STEPS: Final = (5, 30, 120, 300, 900, 1800, 3600, 7200, 14400)
_LONGEST_ASKED: Final = 3600.0
_JITTER: Final = 0.2


def delay_seconds(tries: int, *, asked_seconds: float | None) -> float:
    """How long to wait after this many tries: a step, give or take a fifth, or longer if the receiver asked for it."""
    step = _STEPS[min(max(tries, 1), len(_STEPS)) - 1]
    spread = 1 - _JITTER + 2 * _JITTER * secrets.randbelow(1001) / 1000
    return max(step * spread, asked_seconds or 0.0)


def read_retry_after(header: str | None, *, now: datetime) -> float | None:
    """Seconds of a Retry-After, an hour at most; None if it says nothing that can be understood."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_ASKED)
    try:
        seconds = (parsedate_to_datetime(text) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):  # no date, or one without a zone
        return None
    return min(max(seconds, 0.0), _LONGEST_ASKED)

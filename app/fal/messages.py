"""fal's replies, read with tolerance: what is unknown is passed over, what is unreadable None."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Final

import pydantic_core

from app.fal.outcomes import BillableUnits

_UNITS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?")
_SECONDS: Final = re.compile(r"[0-9]{1,6}")
_LONGEST_SECONDS: Final = 10**9
_YES: Final = ("true", "1")
_NO: Final = ("false", "0")


@dataclass(frozen=True)
class Reply:
    """One whole HTTP reply. The names of `headers` are in lower case."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> dict[str, object] | None:
        """The body, when it is a JSON object (whatever its content type); otherwise None."""
        try:
            # Depth is limited by the parser; NaN and lone surrogates, which Postgres refuses, are errors
            # there.
            value = pydantic_core.from_json(self.body, allow_inf_nan=False)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    @property
    def detail(self) -> object:
        """`detail` of a JSON body; None when there is none."""
        return self.json.get("detail") if self.json is not None else None

    @property
    def is_fal_error(self) -> bool:
        """Whether the body is one of fal's two error shapes: `detail` as a text or a list (FAL.md 2.1)."""
        return isinstance(self.detail, str | list) and bool(self.detail)

    @property
    def billable(self) -> BillableUnits | None:
        """`x-fal-billable-units`, as stated.

        Signs, exponents, NaN, lists: present, but not a number to settle by.
        """
        text = self.headers.get("x-fal-billable-units")
        if text is None:
            return None
        text = clean(text, 100)
        return BillableUnits(text, Decimal(text) if _UNITS.fullmatch(text) else None)

    @property
    def retryable(self) -> bool | None:
        """What fal says of trying again: `X-Fal-Retryable`, or its newer name (FAL.md 2.1); else None."""
        for name in ("x-fal-retryable", "x-fal-needs-retry"):
            word = self.headers.get(name, "").strip().lower()
            if word in _YES or word in _NO:
                return word in _YES
        return None

    @property
    def retry_after_seconds(self) -> int | None:
        """`Retry-After` in seconds; None when absent or a date."""
        text = self.headers.get("retry-after", "").strip()
        return int(text) if _SECONDS.fullmatch(text) else None


def clean(text: str, limit: int) -> str:
    """The text in one printable line of at most `limit` characters."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(c if c.isprintable() else " " for c in cut).strip()


def text_in(source: Mapping[str, object] | None, name: str, limit: int = 500) -> str | None:
    """A member as a bounded text; None when it is absent or empty. What is no text is shown as JSON."""
    value = source.get(name) if source is not None else None
    if not value:
        return None
    text = value if isinstance(value, str) else pydantic_core.to_json(value, inf_nan_mode="null").decode()
    return clean(text, limit) or None


def position_in(source: Mapping[str, object]) -> int | None:
    """`queue_position`, when it is a number that can be one."""
    value = source.get("queue_position")
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def seconds_in(source: object, name: str) -> float | None:
    """A member as seconds, when it is a number that can be some."""
    value = source.get(name) if isinstance(source, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _LONGEST_SECONDS else None


def storable(value: object) -> object:
    """The value without what Postgres cannot hold: U+0000 becomes U+FFFD, an overflowed number null."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return value

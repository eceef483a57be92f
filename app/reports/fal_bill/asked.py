"""What a report of reconciling is asked for, as it stands in a URL."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from app.problems import InvalidInput
from app.reports.fal_bill.lists import LISTS, Line
from app.reports.fal_bill.runs import USUAL_PERIOD
from app.reports.parameters import read_parameters
from app.reports.period import Faults, read_period

_PARAMETERS: Final = ("since", "until", "list", "limit", "cursor", "format")
_USUALLY: Final = 20
_MOST: Final = 100
_LONGEST_CURSOR: Final = 1000
_LIMIT: Final = re.compile(r"\d{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests billed or charged in [since, until), of the list `name` or of all, after a place in the lines."""

    since: datetime
    until: datetime
    name: str | None
    limit: int
    after: tuple[datetime, str] | None


def read_asked(query: Sequence[tuple[str, str]], *, now: datetime, zone: ZoneInfo, faults: Faults) -> Asked:
    """Read names and values; `format` is another's to read.

    Raises InvalidInput with all faults at once: those that were found before and what is wrong here.
    """
    given = read_parameters(query, _PARAMETERS, faults)
    since = given.get("since", (now - USUAL_PERIOD).isoformat())
    period = read_period(since, given.get("until"), now=now, zone=zone, faults=faults)
    listed = given.get("list")
    if listed is not None and listed not in LISTS:
        faults.append({"parameter": "list", "detail": f"must be one of {', '.join(LISTS)}"})
    limit, after = _limit(given.get("limit"), faults), _after(given.get("cursor"), faults)
    if faults:
        raise InvalidInput(faults)
    return Asked(period.since, period.until or max(now, period.since), listed, limit, after)


def cursor_of(line: Line) -> str:
    """Where the page after this line begins."""
    return base64.urlsafe_b64encode(f"{line.at.isoformat()} {line.key}".encode()).decode()


def _limit(text: str | None, faults: Faults) -> int:
    if text is None:
        return _USUALLY
    if _LIMIT.fullmatch(text) and 1 <= int(text) <= _MOST:
        return int(text)
    faults.append({"parameter": "limit", "detail": f"must be a whole number from 1 to {_MOST}"})
    return _USUALLY


def _after(text: str | None, faults: Faults) -> tuple[datetime, str] | None:
    if text is None:
        return None
    try:
        at, _, key = base64.urlsafe_b64decode(text[:_LONGEST_CURSOR].encode()).decode().partition(" ")
        read = datetime.fromisoformat(at)
        moment = None if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError, binascii.Error):
        moment, key = None, ""
    if moment is None or not key or "\0" in key:
        faults.append({"parameter": "cursor", "detail": "must be a next_cursor of this list"})
        return None
    return moment, key

"""The evidence rule: which fal request is whose, and when fal can be said never to have had a submit.

Pure functions over what fal's request list names and over the attempts whose answer was lost (DESIGN section 3). A
mistake here is a video paid for twice, so every doubt ends in "stays for an admin".
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Final
from uuid import UUID

from app.catalogue.fields import show_image
from app.fal import COVERED

SKEW: Final = timedelta(minutes=5)
"""How far fal's clock may be from the database's for a request to be an attempt's."""

DOUBT: Final = timedelta(hours=1)
"""How far it would have to be for a like request that is nobody's to say nothing against an attempt's absence."""

_MARGIN: Final = timedelta(hours=1)  # of what the list covers


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAttempt:
    """A POST of which nobody knows whether fal has it, by the database's clock.

    It was sent between `sent_from` and `sent_at`. `given` is the job's input as it is shown, images by their digest.
    """

    attempt_id: UUID
    sent_from: datetime
    sent_at: datetime
    start_seconds: int | None
    absent_at: datetime | None
    fal_key_id: str
    given: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fal request on the list that no attempt has. `given` is None when the list does not tell its input."""

    fal_request_id: str
    sent_at: datetime
    given: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Matches:
    """`found`: attempt → its fal request, one to one. `doubtful`: attempts that cannot be told apart."""

    found: Mapping[UUID, str]
    doubtful: frozenset[UUID]


class Likeness(Enum):
    """What two inputs are to each other."""

    SAME = "same"
    OTHER = "other"
    UNTOLD = "untold"


class Absence(Enum):
    """What it means that the list does not name an attempt."""

    EARLY = "too early to say"
    FIRST = "remember that it was absent"
    PROVEN = "fal never had it"
    UNPROVABLE = "an admin must say"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The figures of the rule. `fal_key_id` is the key that the list is read with."""

    job_deadline_seconds: int
    unconfirmed_seconds: int
    longest_call_seconds: float
    fal_key_id: str


def is_in_time(attempt: OpenAttempt, sent_at: datetime, rule: Rule) -> bool:
    """Whether what fal got at `sent_at` can be this attempt's POST."""
    first, last = _window(attempt, rule, SKEW)
    return first <= sent_at <= last


def _window(attempt: OpenAttempt, rule: Rule, skew: timedelta) -> tuple[datetime, datetime]:
    longest = timedelta(seconds=rule.longest_call_seconds)
    return attempt.sent_from - skew, attempt.sent_at + longest + skew


class Times:
    """The moments that matter to any of these attempts: a list of thousands is looked through by them."""

    def __init__(self, attempts: Iterable[OpenAttempt], rule: Rule) -> None:
        self._firsts: list[datetime] = []
        self._lasts: list[datetime] = []
        for first, last in sorted(_window(attempt, rule, DOUBT) for attempt in attempts):
            if self._lasts and first <= self._lasts[-1]:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def __contains__(self, sent_at: datetime) -> bool:
        place = bisect_right(self._firsts, sent_at) - 1
        return place >= 0 and sent_at <= self._lasts[place]


def match(attempts: Sequence[OpenAttempt], candidates: Sequence[Candidate], rule: Rule) -> Matches:
    """Whose each candidate is. One that fits several attempts, or one of several that fit one, is nobody's.

    A like candidate that is nobody's and only nearly in time names no attempt, but casts doubt on its absence: the
    clocks may be wrong.
    """
    fitting = {
        (attempt.attempt_id, candidate.fal_request_id): likeness
        for attempt in attempts
        for candidate in candidates
        if is_in_time(attempt, candidate.sent_at, rule)
        and (likeness := liken(attempt.given, candidate.given)) is not Likeness.OTHER
    }
    theirs = Counter(attempt_id for attempt_id, _ in fitting)
    ours = Counter(fal_request_id for _, fal_request_id in fitting)
    found = {
        attempt_id: fal_request_id
        for (attempt_id, fal_request_id), likeness in fitting.items()
        if theirs[attempt_id] == 1 and ours[fal_request_id] == 1 and likeness is Likeness.SAME
    }
    nobodys = [candidate for candidate in candidates if candidate.fal_request_id not in found.values()]
    doubted = {attempt.attempt_id for attempt in attempts if _is_doubted(attempt, nobodys, rule)}
    return Matches(found, frozenset((theirs.keys() | doubted) - found.keys()))


def _is_doubted(attempt: OpenAttempt, nobodys: Sequence[Candidate], rule: Rule) -> bool:
    first, last = _window(attempt, rule, DOUBT)
    return any(
        first <= candidate.sent_at <= last and liken(attempt.given, candidate.given) is not Likeness.OTHER
        for candidate in nobodys
    )


def weigh_absence(attempt: OpenAttempt, asked_at: datetime, rule: Rule) -> Absence:
    """What it says that the list, paged to its end and asked for at `asked_at`, does not name this attempt.

    Without a start deadline fal's queue may hold it for ever unlisted; another key's list may be another account's;
    the list goes back 24 h, no further.
    """
    if attempt.start_seconds is None or attempt.fal_key_id != rule.fal_key_id:
        return Absence.UNPROVABLE
    if attempt.sent_from - SKEW < asked_at - COVERED + _MARGIN:
        return Absence.UNPROVABLE
    unconfirmed = timedelta(seconds=rule.unconfirmed_seconds)
    told_by = attempt.sent_at + timedelta(seconds=attempt.start_seconds + rule.job_deadline_seconds) + unconfirmed
    if asked_at < told_by:
        return Absence.EARLY
    if attempt.absent_at is None or attempt.absent_at < told_by:
        return Absence.FIRST
    return Absence.PROVEN if asked_at - attempt.absent_at >= unconfirmed else Absence.EARLY


def liken(ours: Mapping[str, object], theirs: Mapping[str, object] | None) -> Likeness:
    """Whether fal's input is ours. What only one of the two has, a default perhaps, makes them no different."""
    if theirs is None:
        return Likeness.UNTOLD
    shared = [name for name in ours if ours[name] is not None and theirs.get(name) is not None]
    if any(_differ(ours[name], theirs[name]) for name in shared):
        return Likeness.OTHER
    return Likeness.SAME if shared else Likeness.UNTOLD


def _differ(ours: object, theirs: object) -> bool:
    if isinstance(ours, str) and ours.startswith("data:"):
        return _is_another_image(ours, theirs)
    return ours != theirs and _plain(ours) != _plain(theirs)


def _is_another_image(shown: str, theirs: object) -> bool:
    """Fal may show an image as a link, or cut it short: only a whole one, no smaller than ours, is another."""
    try:
        other = show_image(theirs) if isinstance(theirs, str) else ""
    except ValueError:
        return False
    return other != shown and _bytes_of(other) >= _bytes_of(shown)


def _bytes_of(shown: str) -> int:
    digits = shown.partition(";bytes=")[2].partition(";")[0]
    return int(digits) if digits.isdigit() else 0


def _plain(value: object) -> object:
    """`5`, `5.0` and `"5"` are one: fal may have bent a type."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return value
    return number if number.is_finite() else value

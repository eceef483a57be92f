"""Two transcripts of the same scenario, as two flat mappings from a place to what stands there."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

ABSENT: Final = "(absent)"
_ID = re.compile(r"\b(?:job|req)_[0-9a-f]{24,32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_HOST = re.compile(r"https?://127\.0\.0\.1:\d+(?:/fal)?(?=/)")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)")


class _Ours:
    """Equal to any text: the gateway's own words, which its own tests look at."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other not in {"", ABSENT}

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<words of the gateway's own>"


OURS: Final = _Ours()


class Meant(NamedTuple):
    """Differences that are meant: in which scenarios, by place what fal says and what the gateway says, and why."""

    scenarios: tuple[str, ...]
    places: Mapping[str, tuple[Any, Any]]
    why: str


HINTS_NOT_PASSED_ON: Final[Mapping[str, tuple[Any, Any]]] = {
    "reached fal.x-fal-request-start-timeout": (ABSENT, "up to 30"),
    "reached fal.x-fal-queue-priority": ("low", ABSENT),
    "reached fal.x-fal-runner-hint": ("warm", ABSENT),
    "reached fal.x-fal-no-retry": ("1", ABSENT),
}
"""What goes to fal under FAL_KEY is the gateway's to say, whichever client asks."""


def meant_in(table: Iterable[Meant], scenario: str) -> dict[str, tuple[Any, Any]]:
    """All that is meant to differ there."""
    rows = [meant.places for meant in table if scenario in meant.scenarios]
    return {place: pair for places in rows for place, pair in places.items()}


def flatten(value: Any, place: str = "") -> dict[str, Any]:
    """Each leaf by its place, `a.0.b`; ids, hosts, times and figures that no two runs share are only named."""
    if isinstance(value, dict) and value:
        parts = [(str(name), each) for name, each in value.items()]
    elif isinstance(value, list) and value:
        parts = [(str(index), each) for index, each in enumerate(value)]
    else:
        return {place: plain(value, place)}
    return {where: leaf for name, each in parts for where, leaf in flatten(each, f"{place}.{name}".strip(".")).items()}


def plain(value: Any, place: str) -> Any:
    """A leaf without what no two runs share."""
    if isinstance(value, str):
        return _TIME.sub("<time>", _HOST.sub("<host>", _ID.sub("<id>", value)))
    if isinstance(value, int | float) and place.endswith("inference_time"):
        return "<seconds>"
    return value


def differences(fal: Any, gateway: Any) -> dict[str, tuple[Any, Any]]:
    """Every place where they differ → what fal's and what the gateway's says."""
    left, right = flatten(fal), flatten(gateway)
    places = sorted(left.keys() | right.keys())
    both = {place: (left.get(place, ABSENT), right.get(place, ABSENT)) for place in places}
    return {place: pair for place, pair in both.items() if pair[0] != pair[1]}

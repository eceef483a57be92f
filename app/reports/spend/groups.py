"""What a report of spend is grouped by: days, weeks or months; teams, users, keys; end users, models and tags."""

import re
from dataclasses import dataclass
from typing import Final

from app.reports.period import Faults

PERIODS: Final = ("day", "week", "month")
PEOPLE: Final = {"team": "teams", "user": "users", "key": "keys"}
"""What a line names by its id, and the table that has its name."""
PLAIN: Final = ("end_user", "model")
NAMES: Final = (*PERIODS, *PEOPLE, *PLAIN)
TAG: Final = "tag."
MOST_TAGS: Final = 3

_TAG_NAME: Final = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Groups:
    """Names of what is grouped by, each once, in the order they were asked for; a tag is `tag.NAME`."""

    names: tuple[str, ...] = ()

    @property
    def periods(self) -> list[str]:
        """The periods among them."""
        return [name for name in self.names if name in PERIODS]

    @property
    def tags(self) -> list[str]:
        """The tags among them, `tag.NAME`."""
        return [name for name in self.names if name.startswith(TAG)]

    @property
    def are_summed(self) -> bool:
        """Whether sums by day tell it: they know no end users and no tags."""
        return not self.tags and "end_user" not in self.names

    @property
    def members(self) -> list[str]:
        """What a line calls them: `team` is `team_id` and `team`."""
        return [member for name in self.names for member in ((f"{name}_id", name) if name in PEOPLE else (name,))]


def read_groups(given: str | None, faults: Faults) -> Groups:
    """Names with commas between. Adds to `faults` what is wrong."""
    names = [] if given is None else given.split(",")
    found = set(names)
    if any(name.startswith(TAG) and not _TAG_NAME.fullmatch(name.removeprefix(TAG)) for name in found):
        _fault(faults, "the name of a tag has 1 to 64 of a-z, 0-9, dot, hyphen and underscore")
    if any(not name.startswith(TAG) and name not in NAMES for name in found):
        _fault(faults, f"must be of {', '.join(NAMES)} and tag.NAME, with commas between")
    if len(found) < len(names):
        _fault(faults, "name each grouping once")
    if sum(name.startswith(TAG) for name in names) > MOST_TAGS:
        _fault(faults, f"at most {MOST_TAGS} tags")
    return Groups(tuple(names))


def _fault(faults: Faults, detail: str) -> None:
    faults.append({"parameter": "group_by", "detail": detail})

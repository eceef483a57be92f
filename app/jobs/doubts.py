"""A failure that fal's status did not speak of: believed once its result has said so twice, a minute apart.

fal replays a model's own error each time that its result is read (FAL.md 1.5), and trouble of fal's passes.
"""

import time
from collections import OrderedDict
from typing import Final
from uuid import UUID

from app.fal import Failed

TWICE_WITHIN_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 10_000


class Doubts:
    """One for each loop that reads results. In memory alone: a restart asks for a minute more."""

    def __init__(self) -> None:
        self._first: OrderedDict[UUID, tuple[int, float]] = OrderedDict()

    def are_settled(self, read_for: UUID, failed: Failed) -> bool:
        """Whether this failure may be believed; if not, the result is to be read again."""
        if not failed.doubtful:
            return True
        code, since = self._first.pop(read_for, (0, 0.0))
        if code == failed.error.code and time.monotonic() - since >= TWICE_WITHIN_SECONDS:
            return True
        self._first[read_for] = (code, since) if code == failed.error.code else (failed.error.code, time.monotonic())
        if len(self._first) > _MOST_REMEMBERED:
            self._first.popitem(last=False)
        return False

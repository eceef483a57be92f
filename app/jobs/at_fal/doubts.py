"""A failure that fal's status did not speak of is believed once its result has said so again and again, for a while.

fal replays a model's own error each time that its result is read (FAL.md 1.5), and trouble of fal's passes. A 5xx may
be either; any other speaks of the input, and is doubted for moments only.
"""

import time
from collections import OrderedDict
from typing import Final
from uuid import UUID

from app.fal import CLIENT_CLOSED, Failed

SERVER_ERROR_FOR_SECONDS: Final = 20.0
REFUSAL_FOR_SECONDS: Final = 5.0
_READS: Final = 4  # that say so, at least, however far apart
_MOST_REMEMBERED: Final = 10_000
_SERVER_ERROR: Final = 500


class Doubts:
    """One for each loop that reads results. In memory alone: after a restart it takes as long again."""

    def __init__(self) -> None:
        self._said: OrderedDict[UUID, tuple[int, float, int]] = OrderedDict()  # code, since when, in how many reads

    def wait_seconds(self, read_for: UUID, failed: Failed) -> float:
        """In how many seconds the result is to be read again; 0: this failure may be believed.

        A cancel's is believed at once: nobody else's trouble has its code.
        """
        code = failed.error.code
        if not failed.doubtful or code == CLIENT_CLOSED:
            return 0.0
        for_seconds = SERVER_ERROR_FOR_SECONDS if code >= _SERVER_ERROR else REFUSAL_FOR_SECONDS
        first_code, since, reads = self._said.pop(read_for, (0, 0.0, 0))
        if code != first_code:
            since, reads = time.monotonic(), 0
        elif reads >= _READS - 1 and time.monotonic() - since >= for_seconds:
            return 0.0
        self._said[read_for] = (code, since, reads + 1)
        if len(self._said) > _MOST_REMEMBERED:
            self._said.popitem(last=False)
        return for_seconds / (_READS - 1)

"""How many jobs may be on their way to fal at once: few at first, more as fal takes them.

A fal that breaks makes every submit under way `unconfirmed`. So no more are sent at once than fal has lately taken:
four after a start, a failure or a moment of nothing to send; one more for each that was taken while there were more to
send, which doubles them with every round of answers; 64 at the most. A process that has long sent two at a time loses
four at the most; a burst is at full width after four rounds.
"""

from typing import Final

FIRST: Final = 4


class Ramp:
    """One a dispatcher."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.width = FIRST
        self._under_way = 0

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return self.width - self._under_way

    def sent(self, count: int) -> None:
        """So many more are under way."""
        self._under_way += count

    def came_back(self) -> None:
        """One less is."""
        self._under_way -= 1

    def widen(self) -> None:
        """Fal took one that was sent when there was more to send than room."""
        self.width = min(self._most, self.width + 1)

    def narrow(self) -> None:
        """Fal did not take one."""
        self.width = FIRST

    def rest(self) -> None:
        """There is nothing to send; what fal took a while ago does not speak for it later."""
        if self._under_way == 0:
            self.width = FIRST

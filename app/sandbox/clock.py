"""The sandbox's own time, which can run faster than ours."""

import time
from bisect import bisect_right
from typing import NamedTuple


class _Turn(NamedTuple):
    """From this simulated moment, at this Unix time, the clock ran at `speed`."""

    moment: float
    wall: float
    speed: float


class Clock:
    """Simulated seconds since the sandbox began; a change of speed bends them but makes none of them jump."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._turned_at = time.monotonic()
        self._elapsed = 0.0
        self._turns = [_Turn(0.0, time.time(), speed)]

    def read(self) -> float:
        """Return the simulated seconds elapsed so far."""
        return self._elapsed + (time.monotonic() - self._turned_at) * self.speed

    def set_speed(self, speed: float) -> None:
        """From now on `speed` simulated seconds pass in each real one."""
        self._turn(self.read(), speed)

    def advance(self, seconds: float) -> None:
        """Let so many simulated seconds have passed."""
        self._turn(self.read() + seconds, self.speed)

    def _turn(self, moment: float, speed: float) -> None:
        self._elapsed, self._turned_at, self.speed = moment, time.monotonic(), speed
        self._turns.append(_Turn(moment, time.time(), speed))

    def wall_time(self, moment: float) -> float:
        """Return the Unix time of a simulated moment; a later moment has never an earlier time.

        What was passed over by `advance` has the time of that call, and so has what is to come on a standing clock.
        """
        after = bisect_right(self._turns, moment, key=lambda turn: turn.moment)
        turn = self._turns[max(after - 1, 0)]
        wall = turn.wall + ((moment - turn.moment) / turn.speed if turn.speed else 0.0)
        return min(wall, self._turns[after].wall) if after < len(self._turns) else wall

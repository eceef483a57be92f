"""The sandbox's own time, which can run faster than ours."""

import time


class Clock:
    """Simulated seconds since the sandbox began; a change of speed bends them but makes none of them jump."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._turned_at = time.monotonic()
        self._elapsed = 0.0

    def read(self) -> float:
        """Return the simulated seconds elapsed so far."""
        return self._elapsed + (time.monotonic() - self._turned_at) * self.speed

    def set_speed(self, speed: float) -> None:
        """From now on `speed` simulated seconds pass in each real one."""
        self._elapsed = self.read()
        self._turned_at = time.monotonic()
        self.speed = speed

    def advance(self, seconds: float) -> None:
        """Let so many simulated seconds have passed."""
        self._elapsed += seconds

    def wall_time(self, moment: float) -> float:
        """Return the Unix time of a simulated moment, at the present speed; of a standing clock, the present."""
        return time.time() + ((moment - self.read()) / self.speed if self.speed else 0.0)

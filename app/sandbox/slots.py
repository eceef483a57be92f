"""How many jobs render at once, like a fal account's concurrency (FAL.md 2.5)."""

from collections import deque
from math import inf

from app.sandbox.jobs import Job


class Slots:
    """First come, first rendered, on a fixed number of slots; a job that is requeued keeps its slot."""

    def __init__(self, number: int) -> None:
        self._running: list[Job | None] = [None] * number
        self._waiting: deque[Job] = deque()
        self._joined = 0

    def join(self, job: Job) -> None:
        """Put a job at the end of the line."""
        self._joined += 1
        job.place = self._joined
        self._waiting.append(job)

    def advance(self, moment: float) -> list[Job]:
        """Start everything that could start until this moment, each at its own moment; return what started."""
        started: list[Job] = []
        while self._waiting:
            head = self._waiting[0]
            slot, start_at = self._next()
            if not head.is_undecided() or head.deadline <= min(start_at, moment):
                self._waiting.popleft()  # cancelled, moved by hand, or too late
            elif start_at > moment:
                break
            else:
                self._waiting.popleft()
                head.start(start_at)
                self._running[slot] = head
                started.append(head)
        return started

    def next_moment(self) -> float:
        """Return when the head of the line is to start, as things stand; infinite for an empty line."""
        return self._next()[1] if self._waiting else inf

    def _next(self) -> tuple[int, float]:
        slot = min(range(len(self._running)), key=self._free_at)
        return slot, max(self._waiting[0].ready, self._free_at(slot))

    def _free_at(self, slot: int) -> float:
        job = self._running[slot]
        return 0.0 if job is None else job.ends_at()

    def position_of(self, job: Job) -> int:
        """Return how many joined before it and after the present head, 0-based (FAL.md 1.3)."""
        return max(0, job.place - self._waiting[0].place) if self._waiting else 0

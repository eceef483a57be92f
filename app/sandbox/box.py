"""Everything the pretended fal remembers."""

import time
import uuid
from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import Any

from app.sandbox.clips import choose_clip, nearest_aspect_ratio
from app.sandbox.clock import Clock
from app.sandbox.endpoints import alias_of
from app.sandbox.faults import Fault
from app.sandbox.images import sniff_size
from app.sandbox.jobs import QUEUED, Job, abbreviate
from app.sandbox.scripts import plan_for
from app.sandbox.slots import Slots
from app.sandbox.validation import asked_seconds, find_problems

MOST_REMEMBERED = 200_000  # jobs; the oldest are forgotten first, so that a long bench fits into memory
SHOWN_IN_LINE = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """How this fal is to behave. Seconds are at speed 1."""

    speed: float = 1.0
    queue_seconds: float = 1.0
    render_seconds: float = 3.0
    concurrency: int | None = None
    public_url: str = ""


class Box:
    """The jobs, the clock, the faults that are set, and how often each call came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock(settings.speed)
        self.jobs: dict[str, Job] = {}
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self._slots = Slots(settings.concurrency) if settings.concurrency else None

    def read_clock(self) -> float:
        """Return the present moment, with everything started that is due."""
        moment = self.clock.read()
        if self._slots:
            self._slots.advance(moment)
        return moment

    def accept(
        self,
        endpoint: str,
        given: Any,
        *,
        origin: str,
        key_fingerprint: str,
        headers: dict[str, str],
        deadline: float,
    ) -> Job:
        """Take a job into the queue; `deadline` is in seconds from now."""
        moment = self.read_clock()
        plan = plan_for(given.get("prompt") if isinstance(given, dict) else None)
        seconds = asked_seconds(given)
        job = Job(
            request_id=str(uuid.uuid4()),
            endpoint=endpoint,
            alias=alias_of(endpoint),
            origin=origin,
            input=abbreviate(given),
            # Found now, while the whole input is here; told only when the job runs.
            problems=find_problems(endpoint, given),
            plan=plan,
            clip=choose_clip(_aspect_ratio(given), seconds),
            seconds=seconds,
            key_fingerprint=key_fingerprint,
            headers=headers,
            submitted_at=time.time(),
            arrived=moment,
            ready=moment + self.settings.queue_seconds * plan.queue_times if plan.starts else inf,
            render_seconds=self.settings.render_seconds * plan.render_times,
            deadline=moment + deadline,
        )
        self._remember(job)
        return job

    def _remember(self, job: Job) -> None:
        if len(self.jobs) >= MOST_REMEMBERED:
            del self.jobs[next(iter(self.jobs))]
        self.jobs[job.request_id] = job
        if self._slots and job.plan.starts:
            self._slots.join(job)
        else:
            job.start(job.ready)

    def forget(self) -> None:
        """Forget every job and count; the clock and the faults stay."""
        self.jobs.clear()
        self.calls.clear()
        self._slots = Slots(self.settings.concurrency) if self.settings.concurrency else None

    def find(self, base: str, request_id: str) -> Job | None:
        """Return the job of that id under its alias or its full path (FAL.md 1.2), or None."""
        job = self.jobs.get(request_id)
        return job if job and base in (job.alias, job.endpoint) else None

    def queue_position(self, job: Job, moment: float) -> int:
        """Return its place in the line; without concurrency the line of fal's other customers melts away."""
        if self._slots:
            return self._slots.position_of(job)
        if job.started == inf or job.status_at(moment) != QUEUED or moment >= job.started:
            return 0
        return int(SHOWN_IN_LINE * (job.started - moment) / (job.started - job.arrived))


def _aspect_ratio(given: Any) -> str:
    if not isinstance(given, dict):
        return ""
    image_url = given.get("image_url")
    size = sniff_size(image_url) if isinstance(image_url, str) else None
    return nearest_aspect_ratio(*size) if size else str(given.get("aspect_ratio", ""))

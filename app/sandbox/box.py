"""Everything the pretended fal remembers."""

import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from typing import Any

from app.sandbox.account import Account
from app.sandbox.bill import Bill
from app.sandbox.clips import choose_clip, nearest_aspect_ratio
from app.sandbox.clock import Clock
from app.sandbox.endpoints import alias_of
from app.sandbox.faults import Fault
from app.sandbox.images import size_of, sniff_size
from app.sandbox.jobs import ENDED, QUEUED, Job, abbreviate
from app.sandbox.outbox import Outbox
from app.sandbox.price_list import PriceList
from app.sandbox.prices import unit_price
from app.sandbox.scripts import plan_for
from app.sandbox.signing import KeySet
from app.sandbox.slots import Slots
from app.sandbox.uploads import Uploads
from app.sandbox.validation import asked_seconds, find_problems

MOST_REMEMBERED = 200_000  # jobs; the oldest are forgotten first, so that a long bench fits into memory
MOST_KEPT_WHOLE = 100  # inputs with long texts; of older ones the list shows the abbreviation
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
    """The jobs, the clock, the account, the faults that are set, and how often each call came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock(settings.speed)
        self.jobs: dict[str, Job] = {}
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.account = Account()
        self.prices = PriceList()
        self.bill = Bill()
        self.keys = KeySet()
        self.outbox = Outbox()
        self.uploads = Uploads()
        self.list_lag_seconds = 0.0
        self._kept_whole: deque[Job] = deque()
        self._slots = Slots(settings.concurrency) if settings.concurrency else None

    def read_clock(self) -> float:
        """Return the present moment, with everything started that is due."""
        moment = self.clock.read()
        if self._slots:
            for job in self._slots.advance(moment):
                self.outbox.look_again(job)
        return moment

    def next_moment(self) -> float:
        """Return when a webhook may be due next, as things stand; infinite if none is expected."""
        starts_at = self._slots.next_moment() if self._slots and self.outbox.webhooks else inf
        return min(self.outbox.next_moment(), starts_at)

    def wall_time(self, job: Job, moment: float) -> float:
        """Return the Unix time of a moment of the job's: never before it was sent, even on a standing clock."""
        return max(job.submitted_at, self.clock.wall_time(moment))

    def billed_usd(self, moment: float) -> Decimal:
        """Return what all jobs remembered that have ended are billed."""
        ended = (job for job in self.jobs.values() if job.status_at(moment) == ENDED)
        return sum((job.billed_usd() for job in ended), Decimal(0))

    def accept(
        self,
        endpoint: str,
        given: Any,
        *,
        origin: str,
        key_fingerprint: str,
        headers: dict[str, str],
        deadline: float,
        webhook_url: str = "",
    ) -> Job:
        """Take a job into the queue; `deadline` is in seconds from now. Its end is told to `webhook_url`."""
        moment = self.read_clock()
        plan = plan_for(given.get("prompt") if isinstance(given, dict) else None)
        seconds = asked_seconds(endpoint, given)
        job = Job(
            request_id=str(uuid.uuid4()),
            endpoint=endpoint,
            alias=alias_of(endpoint),
            origin=origin,
            given=given,
            input=abbreviate(given),
            # Found now, while the whole input is here; told only when the job runs.
            problems=find_problems(endpoint, given),
            plan=plan,
            clip=choose_clip(self._aspect_ratio(given), seconds),
            seconds=seconds,
            unit_price_usd=unit_price(endpoint, given),
            key_fingerprint=key_fingerprint,
            headers=headers,
            submitted_at=time.time(),
            arrived=moment,
            ready=moment + self.settings.queue_seconds * plan.queue_times if plan.starts else inf,
            render_seconds=self.settings.render_seconds * plan.render_times,
            deadline=moment + deadline,
        )
        self._remember(job)
        if webhook_url:
            self.outbox.expect(job, webhook_url)
        return job

    def _remember(self, job: Job) -> None:
        if len(self.jobs) >= MOST_REMEMBERED:
            self._forget_oldest()
        if job.input != job.given:
            self._kept_whole.append(job)
            if len(self._kept_whole) > MOST_KEPT_WHOLE:
                older = self._kept_whole.popleft()
                older.given = older.input
        self.jobs[job.request_id] = job
        if self._slots and job.plan.starts:
            self._slots.join(job)
        else:
            job.start(job.ready)

    def _forget_oldest(self) -> None:
        job = self.jobs.pop(next(iter(self.jobs)))
        self.outbox.forget(job.request_id)
        if job.status_at(self.clock.read()) == ENDED:
            self.account.billed_before_usd += job.billed_usd()

    def forget(self) -> None:
        """Forget every job and count and what was still to be told; the clock, the faults and the bill stay."""
        self.account.billed_before_usd += self.billed_usd(self.read_clock())
        self.outbox.forget()
        self._kept_whole.clear()
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

    def _aspect_ratio(self, given: Any) -> str:
        if not isinstance(given, dict):
            return ""
        image_url = given.get("image_url", given.get("start_image_url"))
        size = self._size_of_image(image_url) if isinstance(image_url, str) else None
        return nearest_aspect_ratio(*size) if size else str(given.get("aspect_ratio", ""))

    def _size_of_image(self, image_url: str) -> tuple[int, int] | None:
        """Return the size of an image that is here: in the URL itself, or uploaded."""
        file = self.uploads.find_by_url(image_url)
        return size_of(file.content) if file and file.content else sniff_size(image_url)

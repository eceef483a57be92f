"""Which webhook is due when: what fal still has to tell the URLs given as `fal_webhook` (FAL.md 3)."""

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from heapq import heappop, heappush
from math import inf
from typing import Any, Literal

from app.sandbox.answers import encode_json
from app.sandbox.jobs import Job

# After the first try ten more in about two hours (FAL.md 3): 7 s, 14 s, … 3584 s, simulated.
RETRY_WAITS_SECONDS = tuple(7.0 * 2**number for number in range(10))
SUCCESS = 200
MOST_TRIES_REMEMBERED = 100_000

State = Literal["waiting", "sending", "delivered", "failed", "dropped"]


@dataclass(slots=True)
class Habits:
    """How webhooks go wrong, as `POST /_sandbox/webhooks` sets it. Seconds are simulated but for the timeout."""

    enabled: bool = True
    drop: int = 0  # so many of the next are never sent
    delay_seconds: float = 0.0  # between a job's end and the first try
    copies: int = 1  # how often each try is sent, at once
    reverse: int = 0  # held back until so many are due, then sent one by one, the last first
    payload: bool = True  # False: status OK comes with payload null and a payload_error
    timeout_seconds: float = 15.0


def change_habits(habits: Habits, given: dict[str, Any]) -> Habits:
    """Return them with some changed; ValueError says what is wrong."""
    usual = asdict(Habits())
    unknown = given.keys() - usual.keys()
    if unknown:
        raise ValueError(f"unknown members: {sorted(unknown)}")
    for name, value in given.items():
        kind = type(usual[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"{name} is a {kind.__name__}")
        if value < 0 or (name == "copies" and value < 1):
            raise ValueError(f"{name} is too small")
    return replace(habits, **given)


@dataclass(slots=True)
class Webhook:
    """What one job owes its URL."""

    job: Job
    url: str
    state: State = "waiting"
    tries: int = 0
    retry_at: float = inf

    def due_at(self, habits: Habits) -> float:
        """Return the simulated moment of its next try, infinite if nobody can tell or none will come."""
        if self.state != "waiting":
            return inf
        return self.retry_at if self.tries else self.job.ends_at() + habits.delay_seconds

    def note(self, status: int | None, moment: float) -> None:
        """Take in how a try ended: a code, or None for no answer; 3xx is for good, 2xx delivered, else again."""
        self.tries += 1
        if status is not None and status // 100 == 2:  # noqa: PLR2004
            self.state = "delivered"
        elif (status is not None and status // 100 == 3) or self.tries > len(RETRY_WAITS_SECONDS):  # noqa: PLR2004
            self.state = "failed"
        else:
            self.state, self.retry_at = "waiting", moment + RETRY_WAITS_SECONDS[self.tries - 1]

    def body(self, *, with_payload: bool) -> bytes:
        """Return what is posted; a request that fal's queue tried again has another gateway request id."""
        job = self.job
        answer = job.result(job.origin)
        again = str(uuid.uuid5(uuid.NAMESPACE_OID, job.request_id)) if job.plan.requeued else job.request_id
        content: dict[str, Any] = {"request_id": job.request_id, "gateway_request_id": again}
        if answer.status != SUCCESS:
            error = f"Invalid status code: {answer.status}"
            content |= {"status": "ERROR", "error": error, "payload": json.loads(answer.body)}
        elif with_payload and not job.plan.payload_error:
            content |= {"status": "OK", "payload": json.loads(answer.body)}
        else:
            reason = "The payload is not JSON serializable. Fetch the result by the queue."
            content |= {"status": "OK", "payload": None, "payload_error": reason}
        return encode_json(content)


@dataclass(frozen=True, slots=True)
class Try:
    """One POST and what came of it."""

    request_id: str
    url: str
    number: int
    user_id: str
    sent_at: float
    status_code: int | None
    error: str | None


@dataclass(slots=True)
class Outbox:
    """The webhooks of all jobs, and a line of the moments at which to look at them."""

    habits: Habits = field(default_factory=Habits)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    tries: deque[Try] = field(default_factory=lambda: deque(maxlen=MOST_TRIES_REMEMBERED))
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # look again: something is due earlier
    _line: list[tuple[float, int, Webhook]] = field(default_factory=list)
    _held: list[Webhook] = field(default_factory=list)
    _put: int = 0

    def expect(self, job: Job, url: str) -> None:
        """Remember that the end of this job is to be told to `url`."""
        self.webhooks[job.request_id] = Webhook(job, url)
        self.look_again(job)
        self.changed.set()  # even if nobody can tell yet when it ends: somebody must look when it starts

    def look_again(self, job: Job) -> None:
        """Take in that the job's end has moved; nothing for a job without a webhook."""
        webhook = self.webhooks.get(job.request_id)
        if webhook:
            self.put(webhook)

    def put(self, webhook: Webhook) -> None:
        """Put it into the line at the moment when it is due, if that is known."""
        moment = webhook.due_at(self.habits)
        if moment < inf and self.webhooks.get(webhook.job.request_id) is webhook:
            self._put += 1
            heappush(self._line, (moment, self._put, webhook))
            self.changed.set()

    def next_moment(self) -> float:
        """Return when to look next; infinite: when something changes."""
        return self._line[0][0] if self._line else inf

    def take_due(self, moment: float) -> Iterable[list[Webhook]]:
        """Return what is to be sent now, in groups; those of one group one after the other."""
        groups = []
        while self._line and self._line[0][0] <= moment:
            webhook = heappop(self._line)[2]
            if webhook.due_at(self.habits) > moment:
                self.put(webhook)  # its end was moved, or it is on its way
                continue
            webhook.state = "sending"
            if webhook.tries:
                groups.append([webhook])
            elif self._is_dropped(webhook):
                webhook.state = "dropped"
            else:
                self._held.append(webhook)
        if self._held and len(self._held) >= self.habits.reverse:
            groups.append(self._held[::-1]) if self.habits.reverse else groups.extend([each] for each in self._held)
            self._held = []
        return groups

    def _is_dropped(self, webhook: Webhook) -> bool:
        if not self.habits.enabled or webhook.job.plan.never_told:
            return True
        if self.habits.drop > 0:
            self.habits.drop -= 1
            return True
        return False

    def forget(self, request_id: str | None = None) -> None:
        """Forget one job's webhook, or all of them and their tries."""
        if request_id is not None:
            self.webhooks.pop(request_id, None)
            return
        self.webhooks, self._line, self._held = {}, [], []
        self.tries.clear()

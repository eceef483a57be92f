"""One job: its moments, and what follows from them at any later moment."""

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import Any

from app.sandbox.answers import Answer
from app.sandbox.clips import Clip
from app.sandbox.outcomes import (
    CANCELLED,
    NO_VIDEO,
    NOT_STARTED,
    OUTCOMES,
    Outcome,
    refuse_input,
    tell_outcome,
    tell_output,
)
from app.sandbox.scripts import Plan

CANCEL_SECONDS = 0.2  # until a running job heeds the signal
CHECK_SECONDS = 0.1  # what a runner needs to refuse an invalid input
LONGEST_KEPT_CHARACTERS = 3000
ENDED = "COMPLETED"
QUEUED = "IN_QUEUE"


def abbreviate(given: Any) -> Any:
    """Return the input with long texts (data URIs) as their beginning, length and SHA-256."""
    if isinstance(given, str) and len(given) > LONGEST_KEPT_CHARACTERS:
        digest = hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()
        return f"{given[:40]}…({len(given)} characters, sha256={digest})"
    if isinstance(given, dict):
        return {name: abbreviate(value) for name, value in given.items()}
    return [abbreviate(value) for value in given] if isinstance(given, list) else given


@dataclass(slots=True)
class Job:
    """What fal knows of one request. All moments are simulated seconds (clock.Clock) but `submitted_at`."""

    request_id: str
    endpoint: str
    alias: str
    origin: str
    given: Any
    input: Any  # the same, abbreviated
    problems: list[dict[str, Any]]
    plan: Plan
    clip: Clip
    seconds: float
    unit_price_usd: Decimal
    key_fingerprint: str
    headers: dict[str, str]
    submitted_at: float
    arrived: float
    ready: float
    render_seconds: float
    deadline: float
    started: float = inf
    ended: float = inf
    is_cancelled: bool = False
    place: int = 0
    reads_silenced: int = 0
    results_garbled: int = 0
    erased: bool = False  # fal keeps neither its input nor its output any more
    calls: dict[str, int] = field(default_factory=lambda: {"status": 0, "stream": 0, "result": 0, "cancel": 0})

    def start(self, moment: float) -> None:
        """Begin to render, unless the start deadline came first (FAL.md 1.7)."""
        if not self.plan.starts or moment >= self.deadline:
            return
        self.started = moment
        if self.problems:
            self.ended = moment + min(self.render_seconds, CHECK_SECONDS)
        elif self.plan.ends:
            self.ended = moment + self.render_seconds

    def is_undecided(self) -> bool:
        """Tell whether it has neither started nor been cancelled."""
        return self.started == inf and self.ended == inf

    def has_started_by(self, moment: float) -> bool:
        """Tell whether it was ever taken out of the queue; one cancelled before, or given up, never was."""
        return self.started <= min(moment, self.ended)

    def ends_at(self) -> float:
        """Return the moment it ends as things stand; infinite while nobody can tell."""
        return self.deadline if self.is_undecided() else self.ended

    def status_at(self, moment: float) -> str:
        """Return fal's word for its state (FAL.md 1.3)."""
        if moment >= self.ends_at():
            return ENDED
        if moment < self.started or self._is_taken_back(moment):
            return QUEUED
        return self.plan.running_word

    def _is_taken_back(self, moment: float) -> bool:
        # The queue retries it in the middle third of its time (FAL.md 1.3, last line).
        third = self.render_seconds / 3
        return self.plan.requeued and self.started + third <= moment < self.started + 2 * third

    def cancel(self, moment: float) -> tuple[int, str]:
        """Cancel and return fal's code and word: at once in the queue, else a signal only (FAL.md 1.6)."""
        status = self.status_at(moment)
        if status == ENDED:
            return 400, "ALREADY_COMPLETED"
        if status == QUEUED:
            self.is_cancelled, self.ended = True, moment
            return 200, "OK"
        if not self.plan.ignores_cancel and moment + CANCEL_SECONDS < self.ended:
            self.is_cancelled, self.ended = True, moment + CANCEL_SECONDS
        return 202, "CANCELLATION_REQUESTED"

    def move(self, status: str, moment: float) -> None:
        """Put it into a state by hand, with its clock going on from there; ValueError for an unknown word."""
        if status == QUEUED:
            self.started = self.ended = self.deadline = inf
        elif status == "IN_PROGRESS":
            self.deadline, self.ended = inf, inf
            self.started = moment
            if self.plan.ends:
                self.ended = moment + self.render_seconds
        elif status == ENDED:
            self.started, self.ended = min(self.started, moment), moment
        else:
            raise ValueError(f"status is one of {QUEUED}, IN_PROGRESS, {ENDED}")

    def erase(self) -> None:
        """Forget what was asked for and what came of it; that it was, when, and what it is billed stay."""
        self.given = self.input = None
        self.problems = [{**problem, "input": None} for problem in self.problems]
        self.erased = True

    def failure(self) -> Outcome | None:
        """Return what an ended job failed of; None for a success and for an invalid input (`problems`)."""
        if self.is_cancelled:
            return CANCELLED
        if self.started == inf:
            return NOT_STARTED
        return None if self.problems else OUTCOMES.get(self.plan.outcome)

    def outcome(self) -> str:
        """Return how an ended job ended: `succeeded`, or the type of its error."""
        failure = self.failure()
        if failure is not None:
            return failure.kind
        return str(self.problems[0]["type"]) if self.problems else "succeeded"

    def result(self, origin: str) -> Answer:
        """Return the reply that every read of an ended job's result replays."""
        failure = self.failure()
        if failure is not None:
            return tell_outcome(failure, self.request_id, self._units(failure.units))
        if self.problems:
            return refuse_input(self.problems, self.request_id)
        return tell_output(self._output(origin), self.request_id, self._units(f"{self.seconds:g}"))

    def billable_units(self) -> str | None:
        """Return what `x-fal-billable-units` says (or would) when it has ended."""
        failure = self.failure()
        if failure is not None:
            return self._units(failure.units)
        return "0" if self.problems else self._units(f"{self.seconds:g}")

    def billed_units(self) -> Decimal:
        """Return what fal's bill says of it when it has ended, whatever its headers said.

        A 5xx is never billed (FAL.md 2.4); without the header a refusal is free here and a success billed in full.
        """
        failure = self.failure()
        if failure is not None and failure.status >= 500:  # noqa: PLR2004
            return Decimal(0)
        units = self.billable_units()
        if units is None:
            return Decimal(0) if failure else Decimal(f"{self.seconds:g}")
        return Decimal(units)

    def billed_usd(self) -> Decimal:
        """Return what fal's bill comes to when it has ended."""
        return self.billed_units() * self.unit_price_usd

    def _units(self, usual: str | None) -> str | None:
        if self.is_cancelled or self.started == inf or self.plan.units == "":
            return usual
        return f"{self.seconds:g}" if self.plan.units == "full" else self.plan.units

    def _output(self, origin: str) -> dict[str, Any]:
        if self.plan.outcome == NO_VIDEO:
            return {"video": None}
        name = f"lapsed-{self.clip.name}" if self.plan.lapsed else self.clip.name
        video = {
            "url": f"{origin}/files/{self.request_id}/{name}",
            "content_type": "video/mp4",
            "file_name": self.clip.name,
            "file_size": self.clip.path.stat().st_size,
        }
        return {"video": video}

"""Metrics: counters of this process. Figures about jobs and money are read from the database when asked for."""

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

Outcome = TypeVar("Outcome")


class Metrics:
    """Labels never carry a user, a team, a key or a prompt."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.fal_requests = Counter(
            "falgate_fal_requests", "Calls to fal.", ["call", "outcome"], registry=self.registry
        )
        self.refusals = Counter(
            "falgate_refusals",
            "Submits refused once they were understood, by problem.",
            ["code"],
            registry=self.registry,
        )
        self.settles_marked = Counter(
            "falgate_settles_marked",
            "Settles in which fal's bill was not stated or not as quoted.",
            ["mark"],
            registry=self.registry,
        )
        self.delivery_tries = Counter(
            "falgate_delivery_tries", "Tries to deliver a webhook to a caller.", ["outcome"], registry=self.registry
        )
        self.group_size = Histogram(
            "falgate_group_size",
            "Members that shared one transaction.",
            ["group"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )

    def saw_fal(self, call: str, outcome: Outcome) -> Outcome:
        """Count what a call to fal came to; returns it."""
        self.fal_requests.labels(call, type(outcome).__name__).inc()
        return outcome

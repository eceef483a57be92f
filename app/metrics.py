"""Metrics: counters of this process. Figures about jobs and money are read from the database when asked for."""

from itertools import product
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
        self.fal_webhooks = Counter(
            "falgate_fal_webhooks", "Webhooks that came to fal's path.", ["outcome"], registry=self.registry
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
        self.output_tries = Counter(
            "falgate_output_tries", "Tries to copy a video to OUTPUT_STORE.", ["outcome"], registry=self.registry
        )
        self.downloads = Counter(
            "falgate_downloads", "Videos asked for through the gateway.", ["source", "outcome"], registry=self.registry
        )
        for outcome in ("stored", "failed", "given up"):  # there from the start: the first of a kind is an increase
            self.output_tries.labels(outcome)
        for source, outcome in (*product(("store", "fal"), ("begun", "trouble")), ("fal", "lapsed")):
            self.downloads.labels(source, outcome)
        self.group_size = Histogram(
            "falgate_group_size",
            "Members that shared one transaction.",
            ["group"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )

        self._http_seconds = Histogram(
            "falgate_http_request_seconds",
            "Time to the first byte of an answer; requests that wait for a job on purpose are left out.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self._http_places: dict[tuple[str, str, int], Histogram] = {}

    def saw_http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer: `route` is the template, of `status` the first digit is told."""
        place = (method, route, status // 100)
        found = self._http_places.get(place)
        if found is None:
            found = self._http_places[place] = self._http_seconds.labels(method, route, f"{status // 100}xx")
        found.observe(seconds)

    def saw_fal(self, call: str, outcome: Outcome) -> Outcome:
        """Count what a call to fal came to; returns it."""
        self.fal_requests.labels(call, type(outcome).__name__).inc()
        return outcome

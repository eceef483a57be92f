"""kill -9 at the failpoints, one after another: nothing lost, started twice, charged twice or told wrong."""

import random
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgres
from tests.chaos.crash import Pace, all_labels, run_crashes
from tests.chaos.failpoints import FAILPOINTS, NOT_KILLED, steps

SHORT = Pace(places=8, life_seconds=1.5, meetings=(1, 1, 2), administrates=False)
ON_EVERY_JOBS_WAY = (
    "app.jobs.submits.submit:Submits._run",
    "answer /v1/text-to-video",
    "answer /fal/",
    "app.compat.repeats:Repeats._forget",
    "answer /v1/jobs/{id}",
    "app.jobs.at_fal.claims:",
    "app.jobs.at_fal.dispatch:",
    "app.jobs.at_fal.moves:Moves._accept",
    "app.jobs.at_fal.track:Tracker._ask",
    "app.jobs.at_fal.track:Tracker._read_result",
    "app.jobs.ends.ending:",
    "app.jobs.at_fal.receive:Receiver._keep",
    "app.jobs.at_fal.receive:Receiver._verify",
    "answer /webhooks/fal/{id}",
    "app.deliveries.claims:",
    "app.deliveries.sender:Sender._try",
)
"""The others are met now and then: `make chaos` has the time to wait for them."""


@pytest.mark.parametrize("kills", [25, pytest.param(100, marks=pytest.mark.slow)])
async def test_kills_lose_nothing_start_nothing_twice_and_charge_what_fal_billed(
    postgres: EmbeddedPostgres, tmp_path: Path, kills: int
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    labels = [label for label in all_labels(seed) if any(part in label for part in ON_EVERY_JOBS_WAY)]
    labels = [label for label in labels if not label.endswith("/resolve")]
    report = await run_crashes(tmp_path, postgres, kills=kills, restores=1, seed=seed, labels=labels, pace=SHORT)
    assert report.verdict.differences == {}, "\n".join(report.lines())
    assert report.kills.total() >= kills
    assert set(report.met) <= {step for name in (*FAILPOINTS, *NOT_KILLED) for step in steps(name)}

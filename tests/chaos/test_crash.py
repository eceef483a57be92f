"""kill -9 at the failpoints, one after another: nothing lost, started twice, charged twice or told wrong."""

import random
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgres
from tests.chaos.crash import all_labels, run_crashes
from tests.chaos.failpoints import FAILPOINTS, steps

ADMINISTRATION = ("(admin)", "app.accounts", "app.ledger.routes")


async def test_forty_kills_lose_nothing_start_nothing_twice_and_charge_what_fal_billed(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    labels = [label for label in all_labels(seed) if not any(part in label for part in ADMINISTRATION)]
    report = await run_crashes(tmp_path, postgres, kills=40, restores=1, seed=seed, labels=labels)
    assert report.verdict.differences == {}, "\n".join(report.lines())
    assert report.kills.total() >= 40
    assert set(report.met) <= {step for name in FAILPOINTS for step in steps(name)}


@pytest.mark.slow
async def test_five_hundred_kills(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    report = await run_crashes(tmp_path, postgres, kills=500, restores=5, seed=seed, labels=all_labels(seed))
    assert report.verdict.differences == {}, "\n".join(report.lines())
    assert set(report.kills) == set(all_labels(seed))

"""kill -9 of Postgres while jobs come in, go out and end: what was accepted is there, and all goes on by itself."""

import asyncio
import random
import tempfile
import time
from pathlib import Path

import pytest

from tests.chaos.callers import ERRANDS
from tests.chaos.crash import Pace, Report, Run, set_up
from tests.chaos.mortal_postgres import MortalPostgres

PACE = Pace(places=6, administrates=False)


async def deaths(folder: Path, times: int) -> tuple[Report, list[float]]:
    """The report, and after each death the seconds from Postgres' return until a job was accepted and ended."""
    seconds = []
    with MortalPostgres(folder) as postgres:
        async with set_up(folder, postgres, seed=random.randrange(10**6), pace=PACE) as run:
            await run.nursery.bear()
            run.callers.start(PACE.places)
            for _ in range(times):
                await asyncio.sleep(0.7)
                await asyncio.to_thread(postgres.kill)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(postgres.come_back)
                seconds.append(await _back_to_normal(run))
            await run.nursery.kill()
            return await run.close_books(), seconds


async def _back_to_normal(run: Run) -> float:
    back = time.monotonic()
    await run.callers.see_ended(ERRANDS["well"])
    return time.monotonic() - back


@pytest.mark.slow  # tests/http/test_postgres_trouble.py has one death for every day
async def test_postgres_killed_ten_times_under_load_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    times = 10
    with tempfile.TemporaryDirectory(prefix="fg") as folder:  # short: a socket's path has 100 bytes
        report, seconds = await deaths(Path(folder), times)
    with capsys.disabled():
        print(f"\n{times} deaths of Postgres; back to normal after {[round(each, 2) for each in seconds]} s")
    assert report.verdict.differences == {}, "\n".join(report.lines())
    assert len(seconds) == times

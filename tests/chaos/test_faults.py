"""Every answer of fal's replaced by every fault: once fal is well again, each job ends as fal's books say."""

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest

from app.settings import Settings
from tests.chaos.books import compare, reread
from tests.chaos.callers import Callers, Errand
from tests.chaos.victim import haste
from tests.conftest import settings_for
from tests.gateway import run_gateway
from tests.sandbox.running import Sandbox, run_sandbox

SAY_NO: Final = ("401", "403-locked", "404", "409", "422", "429")
"""To a submit: nothing was made (FAL.md 8). To the others: a word about us, or about nothing."""

SAY_NOTHING: Final = (
    "reset",
    "hang",
    "408",
    "500",
    "502-html",
    "503",
    "504-deadline",
    "truncated",
    "odd-status",
    "empty",
)
TIMES: Final = 2  # of a call that is made again until it is answered


def matrix() -> Iterator[Errand]:
    """One job a cell."""
    for fault in SAY_NO + SAY_NOTHING:
        yield Errand("", fault=("submit", fault, 1))
        yield Errand("", fault=("status", fault, TIMES))
        yield Errand("", fault=("result", fault, TIMES))
        yield Errand("[hang]", fault=("cancel", fault, TIMES), cancels=True)
        yield Errand("[hang]", fault=("cancel", fault, TIMES), cancels=True, accepted=True)
    for fault in SAY_NOTHING:
        yield Errand("", fault=("submit", fault, 1), accepted=True)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with run_sandbox("--speed", "40") as (sandbox, _):
        yield sandbox


@pytest.fixture
def impatient(database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Deadlines of seconds instead of hours."""
    haste(monkeypatch.setattr)
    short = {"poll_seconds": "0.05", "start_seconds": "2", "job_deadline_seconds": "2", "unconfirmed_seconds": "1"}
    urls = {"fal_queue_url": sandbox.url, "fal_rest_url": sandbox.url, "fal_api_url": f"{sandbox.url}/v1"}
    return settings_for(database_url, **short, **urls)


async def test_after_every_fault_at_every_call_each_job_ends_as_fals_books_say(
    impatient: Settings, sandbox: Sandbox
) -> None:
    async with run_gateway(impatient) as gateway:
        callers = Callers([gateway.url], await gateway.make_person(), sandbox, errands=matrix())
        callers.start(24)
        try:
            await asyncio.sleep(0)
            await callers.finish(within_seconds=60, stop=False)
            await reread(callers)
            verdict = await compare(gateway.wiring.db, sandbox, callers)
        finally:
            await callers.close()
    assert len(callers.told) == len(list(matrix()))
    assert verdict.differences == {}

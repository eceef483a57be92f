"""One sandbox process for all these tests, swept after each; gateways that poll it quickly."""

from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from app import wiring
from app.db import Database
from app.embedded import EmbeddedPostgres
from app.fal import Queue
from app.jobs.at_fal import dispatch, doubts, upstream
from app.settings import Settings
from tests.conftest import settings_for
from tests.jobs.hand import Hand, by_hand
from tests.jobs.slots import limited
from tests.sandbox.running import Sandbox, run_sandbox

SPEED = 200.0  # a job takes 20 ms
POLL_SECONDS = 0.05


@pytest.fixture(scope="package")
def shared_sandbox() -> Iterator[Sandbox]:
    with run_sandbox("--speed", str(SPEED)) as (sandbox, _):
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    yield shared_sandbox
    shared_sandbox.http.delete("/_sandbox/faults")
    shared_sandbox.http.delete("/_sandbox/requests")
    shared_sandbox.set_clock(speed=SPEED)


def settings_at(database_url: str, fal_queue_url: str, **more: str) -> Settings:
    """Settings of a gateway in front of this fal."""
    return settings_for(database_url, **({"fal_queue_url": fal_queue_url, "poll_seconds": str(POLL_SECONDS)} | more))


@pytest.fixture
def at_sandbox(database_url: str, sandbox: Sandbox) -> Settings:
    return settings_at(database_url, sandbox.url)


@pytest.fixture
async def hand(settings: Settings) -> AsyncIterator[Hand]:
    async with by_hand(settings) as made:
        yield made


@pytest.fixture
async def two_slots(database_url: str) -> AsyncIterator[Hand]:
    async with limited(database_url, 2) as hand:
        yield hand


@pytest.fixture(scope="module")
def module_database_url(postgres: EmbeddedPostgres, template: str, request: pytest.FixtureRequest) -> str:
    name = f"module_{request.module.__name__.rpartition('.')[2]}"
    postgres.create_database(name, template)
    return postgres.dsn(name)


@pytest.fixture
async def hands(module_database_url: str) -> AsyncIterator[Hand]:
    """As `hand`, on one database for the whole module: for tests that end every job they make."""
    async with by_hand(settings_for(module_database_url), shared=True) as made:
        yield made


@pytest.fixture
async def swept_hand(module_database_url: str) -> AsyncIterator[Hand]:
    """As `hands`, and every job is gone afterwards: for tests that leave theirs open."""
    async with by_hand(settings_for(module_database_url), shared=True) as made:
        yield made
    db = Database(module_database_url)
    async with db.begin_plain() as plain:
        await plain.execute(
            "SET LOCAL session_replication_role = replica; TRUNCATE jobs, spend_daily, spend_monthly CASCADE"
        )
    await db.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost answers and pauses are over soon."""
    monkeypatch.setattr(wiring, "Queue", partial(Queue, read_seconds=0.7))
    monkeypatch.setattr(doubts, "SERVER_ERROR_FOR_SECONDS", 1.0)
    monkeypatch.setattr(doubts, "REFUSAL_FOR_SECONDS", 1.0)
    monkeypatch.setattr(upstream, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(upstream, "LONGEST_PAUSE_LOST_SECONDS", 0.02)
    monkeypatch.setattr(dispatch, "_LONGEST_BACKOFF_SECONDS", 0.1)

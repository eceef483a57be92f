"""Gateways that the tests of this folder share, so that none waits for another to start."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.hand import Clock
from tests.sandbox.running import Sandbox, run_sandbox

_numbers = itertools.count()


def fresh_database(postgres: EmbeddedPostgres, template: str) -> str:
    """A migrated database of its own; returns its URL."""
    name = f"compat_{next(_numbers)}"
    postgres.create_database(name, template)
    return postgres.dsn(name)


@pytest.fixture(scope="package")
def fal() -> Iterator[Sandbox]:
    """A sandbox in which a job takes 40 ms."""
    with run_sandbox("--speed", "100") as (sandbox, _):
        yield sandbox


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def working(postgres: EmbeddedPostgres, template: str, fal: Sandbox) -> AsyncIterator[Gateway]:
    """Takes jobs and puts them through."""
    settings = settings_for(fresh_database(postgres, template), FAL_QUEUE_URL=fal.url, POLL_SECONDS="0.05")
    async with run_gateway(settings) as running:
        yield running


@pytest.fixture(scope="package")
def clock() -> Clock:
    """That of `gateway`."""
    return Clock()


@pytest.fixture(scope="package")
def shared_database(postgres: EmbeddedPostgres, template: str) -> str:
    """That of `gateway` and `twin`."""
    return fresh_database(postgres, template)


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def gateway(shared_database: str, clock: Clock) -> AsyncIterator[Gateway]:
    """Takes jobs and sends none: what is submitted stays `queued`."""
    async with run_gateway(settings_for(shared_database), clock=clock, work=False) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def twin(shared_database: str, gateway: Gateway, clock: Clock) -> AsyncIterator[Gateway]:
    """A second replica beside `gateway`."""
    del gateway
    async with run_gateway(settings_for(shared_database), clock=clock, work=False) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def ann(gateway: Gateway) -> Person:
    """A member of a team of her own."""
    return await gateway.make_person()

"""Gateways that the tests of this folder share, so that none waits for another to start."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway
from tests.sandbox.running import Sandbox, run_sandbox

from .office import Office

_numbers = itertools.count()


def fresh_database(postgres: EmbeddedPostgres, template: str) -> str:
    """A migrated database of its own; returns its URL."""
    name = f"http_{next(_numbers)}"
    postgres.create_database(name, template)
    return postgres.dsn(name)


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def gateway(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Gateway]:
    """Takes jobs and sends none: what is submitted stays `queued`."""
    async with run_gateway(settings_for(fresh_database(postgres, template)), work=False) as running:
        yield running


@pytest.fixture(scope="package")
def fal() -> Iterator[Sandbox]:
    """A sandbox in which a job takes 40 ms."""
    with run_sandbox("--speed", "100") as (sandbox, _):
        yield sandbox


def working_settings(url: str, fal: Sandbox, **more: str) -> Settings:
    """Settings of a gateway that sends its jobs to this sandbox and looks after them often."""
    fals = {"FAL_QUEUE_URL": fal.url, "FAL_REST_URL": fal.url, "FAL_API_URL": f"{fal.url}/v1"}
    return settings_for(url, **fals, POLL_SECONDS="0.05", **more)


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def working(postgres: EmbeddedPostgres, template: str, fal: Sandbox) -> AsyncIterator[Gateway]:
    """Takes jobs and puts them through."""
    async with run_gateway(working_settings(fresh_database(postgres, template), fal)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def ann(gateway: Gateway) -> Person:
    """A member of a team of her own."""
    return await gateway.make_person()


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def office(gateway: Gateway) -> Office:
    """Somebody of each role."""
    return await Office.open(gateway)

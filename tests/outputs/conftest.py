"""A gateway in front of a CDN of our own, shared by these tests, and jobs that have videos there."""

from collections.abc import AsyncIterator

import pytest_asyncio

from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway

from .cdn import Cdn, run_cdn


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def cdn() -> AsyncIterator[Cdn]:
    async with run_cdn() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def gateway(postgres: EmbeddedPostgres, template: str, cdn: Cdn) -> AsyncIterator[Gateway]:
    """Sends nothing to fal; the CDN lies in the origin of FAL_REST_URL, as the sandbox's does."""
    postgres.create_database("outputs_shared", template)
    settings = settings_for(postgres.dsn("outputs_shared"), FAL_REST_URL=cdn.url)
    async with run_gateway(settings, work=False) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def ann(gateway: Gateway) -> Person:
    return await gateway.make_person()

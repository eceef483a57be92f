"""Both sides of the comparisons, shared by the tests of this folder; what cannot run on this machine is left out."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import Gateway, run_gateway

from .certificate import Certificate, make_certificate
from .hooks import Hooks
from .serving import host_of, listen, serve
from .stage import Fal, run_fal
from .tools import deselect, require_tools


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The end of the run says what was left out: tests/conftest.py."""
    deselect(config, items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """In CI nothing is left out, so that what is missing fails, before anything is started for it."""
    require_tools(item.path.name)


@pytest.fixture(scope="package")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="package")
def page_listener() -> Iterator[socket.socket]:
    """Where a page of another origin will be served."""
    with listen() as listener:
        yield listener


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def fal() -> AsyncIterator[Fal]:
    """The fal that the gateway calls."""
    async with run_fal() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def hook_url() -> AsyncIterator[str]:
    """Where webhooks may be sent: any path below."""
    async with serve(Hooks()) as host:
        yield f"http://{host}"


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def gateway(
    postgres: EmbeddedPostgres, template: str, fal: Fal, page_listener: socket.socket
) -> AsyncIterator[Gateway]:
    """A gateway in front of that fal, which lets the page of the test call it."""
    postgres.create_database("clients", template)
    settings = settings_for(
        postgres.dsn("clients"),
        FAL_QUEUE_URL=fal.url,
        FAL_REST_URL=fal.url,
        FAL_API_URL=fal.url,
        POLL_SECONDS="0.05",
        WEBHOOK_ALLOW_PRIVATE="true",
        CORS_ORIGINS=f"http://{host_of(page_listener)}",
    )
    async with run_gateway(settings) as running:
        yield running

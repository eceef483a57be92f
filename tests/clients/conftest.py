"""Both sides of the comparisons, shared by the tests of this folder; and what stands on this machine."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from tests.conftest import settings_for
from tests.gateway import Gateway, run_gateway

from .certificate import Certificate, make_certificate
from .hooks import Hooks
from .serving import serve
from .stage import Fal, run_fal


@pytest.fixture(scope="package")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


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
async def gateway(postgres: EmbeddedPostgres, template: str, fal: Fal) -> AsyncIterator[Gateway]:
    """A gateway in front of that fal."""
    postgres.create_database("clients", template)
    settings = settings_for(
        postgres.dsn("clients"),
        FAL_QUEUE_URL=fal.url,
        FAL_REST_URL=fal.url,
        FAL_API_URL=fal.url,
        POLL_SECONDS="0.05",
        WEBHOOK_ALLOW_PRIVATE="true",
        CORS_ORIGINS="*",
    )
    async with run_gateway(settings) as running:
        yield running

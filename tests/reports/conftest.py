"""Where these tests take place: a house, and an office whose days are those of Berlin."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.accounts.office import Office
from tests.conftest import settings_for
from tests.ledger.house import House
from tests.reports.counter import Counter


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    made = House(settings)
    yield made
    await made.close()


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    office = Office(settings_for(database_url, timezone="Europe/Berlin"))
    await office.open()
    yield office
    await office.close()


@pytest_asyncio.fixture(loop_scope="package", scope="package")
async def counter(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Counter]:
    """A gateway that is asked for large reports; each test writes a history of its own into it."""
    postgres.create_database("reports_counter", template)
    async with Counter.open(settings_for(postgres.dsn("reports_counter"), timezone="Europe/Berlin")) as counter:
        yield counter

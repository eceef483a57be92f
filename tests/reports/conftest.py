"""Where these tests take place: a house, and an office whose days are those of Berlin."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.accounts.office import Office
from tests.conftest import settings_for
from tests.ledger.house import House


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

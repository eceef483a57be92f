"""The house in which these tests take place."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.ledger.house import House


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    made = House(settings)
    yield made
    await made.close()

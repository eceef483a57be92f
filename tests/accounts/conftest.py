"""The office in which these tests take place."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings

from .office import Office


@pytest.fixture
async def office(settings: Settings) -> AsyncIterator[Office]:
    office = Office(settings)
    await office.open()
    yield office
    await office.close()

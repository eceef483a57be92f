"""The office whose spending these tests report, its days those of Berlin."""

from collections.abc import AsyncIterator

import pytest

from tests.accounts.office import Office
from tests.conftest import settings_for


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    office = Office(settings_for(database_url, timezone="Europe/Berlin"))
    await office.open()
    yield office
    await office.close()

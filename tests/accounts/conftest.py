"""The office in which these tests take place."""

from collections.abc import AsyncIterator

import pytest

from app.db import Database

from .office import Office


@pytest.fixture
async def office(db: Database) -> AsyncIterator[Office]:
    office = Office(db)
    await office.open()
    yield office
    await office.client.aclose()

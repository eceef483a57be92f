"""Databases for commands."""

import itertools
from collections.abc import Iterator

import pytest

from app.embedded import EmbeddedPostgres
from tests.cli.commands import FORKS

_numbers = itertools.count()


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> str:
    """A database in which nothing is."""
    name = f"empty_{next(_numbers)}"
    postgres.create_database(name)
    return postgres.dsn(name)


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """They end with the tests."""
    yield
    FORKS.end()

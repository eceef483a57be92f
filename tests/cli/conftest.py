"""Databases for commands."""

import itertools

import pytest

from app.embedded import EmbeddedPostgres

_numbers = itertools.count()


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> str:
    """A database in which nothing is."""
    name = f"empty_{next(_numbers)}"
    postgres.create_database(name)
    return postgres.dsn(name)

"""Databases for servers that race."""

from collections.abc import Iterator

import pytest

from tests.contracts.postgresql import DATABASES, database_of


@pytest.fixture(scope="module", params=DATABASES)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, or nothing for SQLite."""
    with database_of(request.param) as url:
        yield url

"""Databases for servers that race."""

from collections.abc import Iterator

import pytest

from tests.contracts.postgresql import migrated_postgresql


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, or nothing for SQLite."""
    if request.param == "sqlite":
        yield ""
        return
    with migrated_postgresql() as url:
        yield url

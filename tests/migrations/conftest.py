"""Fixtures: Alembic itself, which other tests do without, and databases that are empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import quick
from tests.contracts.postgresql import DATABASES, postgresql_database


@pytest.fixture(autouse=True)
def _real() -> Iterator[None]:
    """Run the migrations whenever a catalog is made."""
    with quick.real_migrations():
        yield


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'catalog.sqlite3'}"
        return
    with postgresql_database() as url:
        yield url

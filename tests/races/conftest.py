"""Databases for servers that race, and pairs of servers."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from tests.contracts.postgresql import DATABASES, database_of
from tests.programs import dualreg_server


@pytest.fixture(scope="module", params=DATABASES)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, or nothing for SQLite."""
    with database_of(request.param) as url:
        yield url


@pytest.fixture
def catalog(tmp_path: Path, database: str) -> Iterator[Catalog]:
    """The catalog that the servers share."""
    with closing(Catalog(database or f"sqlite:///{tmp_path}/catalog.sqlite3")) as catalog:
        upgrade(catalog)
        yield catalog


@pytest.fixture
def hosts(tmp_path: Path, catalog: Catalog) -> Iterator[Sequence[str]]:
    """Two servers of one registry."""
    url = catalog.engine.url.render_as_string(hide_password=False)
    with ExitStack() as stack:
        servers = [dualreg_server(tmp_path / "data", database=url, workers=2) for _ in range(2)]
        yield [stack.enter_context(each) for each in servers]

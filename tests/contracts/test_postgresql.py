"""The catalog over a real PostgreSQL keeps the contract."""

from collections.abc import Iterator

import pytest

from dualreg.catalog.database import Catalog
from tests.conftest import Clock
from tests.contracts.catalog import CatalogContract
from tests.contracts.postgresql import migrated_postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server for this module, with the tables that the migrations make."""
    with migrated_postgresql() as url:
        yield url


@pytest.mark.postgres
class TestPostgresql(CatalogContract):
    """The contract, over a server whose own collation is English."""

    @pytest.fixture
    def catalog(self, server: str, clock: Clock) -> Iterator[Catalog]:
        """An empty catalog."""
        catalog = Catalog(server, now=clock)
        with catalog.engine.begin() as connection:
            connection.exec_driver_sql(
                "TRUNCATE repositories, blobs, signing_keys, v1_clients, accounts, group_members, "
                "permissions, secrets, login_failures, login_successes, forgotten, service_state CASCADE"
            )
        yield catalog
        catalog.close()

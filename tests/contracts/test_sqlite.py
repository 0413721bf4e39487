"""The catalog over SQLite keeps the contract."""

from tests.contracts.catalog import CatalogContract


class TestSqlite(CatalogContract):
    """The contract, over the file that the shared ``catalog`` fixture makes."""

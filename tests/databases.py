"""The databases of registries in tests: SQLite files, or those of a PostgreSQL server with TEST_DATABASE.

``TEST_DATABASE=postgresql pytest tests/protocol tests/registry`` runs on PostgreSQL what asks for
``empty_database``. Tests of files, of the command line and of SQLite itself have SQLite in any case.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, delete
from sqlalchemy.pool import NullPool

from dualreg.catalog.tables import Table
from tests import quick
from tests.contracts.postgresql import new_database

#: Whether registries of tests have databases of PostgreSQL.
ON_POSTGRESQL = os.environ.get("TEST_DATABASE") == "postgresql"
#: Databases of this process that nothing uses.
_free: list[str] = []


@contextmanager
def empty_database(folder: Path) -> Iterator[str]:
    """Yield the URL of a database that has all tables and no rows; that of SQLite is a file in *folder*."""
    if not ON_POSTGRESQL:
        yield empty_file(folder)
        return
    url = _free.pop() if _free else new_database()
    yield url
    _clear(url)
    _free.append(url)


def empty_file(folder: Path) -> str:
    """Return the URL of an SQLite file in *folder*, with all tables and no rows."""
    path = folder / "catalog.sqlite3"
    path.write_bytes(quick.migrated())
    return f"sqlite:///{path}"


def _clear(url: str) -> None:
    """Delete all rows; that is faster than another database for each test."""
    going = [str(delete(table)) for table in reversed(Table.metadata.sorted_tables)]
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
        connection.exec_driver_sql("; ".join(going))

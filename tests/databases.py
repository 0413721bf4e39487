"""The databases of registries in tests: SQLite files, or those of a PostgreSQL server with TEST_DATABASE.

``TEST_DATABASE=postgresql pytest tests/migrate`` runs them on PostgreSQL: what asks for ``empty_database``,
and the databases of data directories (``tests.directories``). What is about SQLite is skipped.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, delete
from sqlalchemy.pool import NullPool

from dualreg.catalog.tables import Table
from tests import directories, quick
from tests.contracts.postgresql import migrated_server, new_database
from tests.directories import FILE, ON_POSTGRESQL

#: Databases of this process that nothing uses.
_free: list[str] = []


def install() -> None:
    """Run tests on PostgreSQL, if TEST_DATABASE says so."""
    if ON_POSTGRESQL:
        os.environ[directories.SERVER] = "{}/{}".format(*migrated_server())
        directories.install()


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


def database_in(folder: Path) -> str:
    """Return the URL of a database as ``empty_database`` that lasts as long as *folder*.

    What is copied with all files of the folder is another database, with the same rows.
    """
    return directories.url_of(folder) if ON_POSTGRESQL else empty_file(folder)


def empty_file(folder: Path) -> str:
    """Return the URL of an SQLite file in *folder*, with all tables and no rows."""
    folder.mkdir(exist_ok=True)
    path = folder / FILE
    path.write_bytes(quick.migrated())
    return f"sqlite:///{path}"


def ignore_keys(connection: Connection) -> None:
    """Let a transaction add rows that refer to nothing, and delete what others refer to."""
    is_sqlite = connection.dialect.name == "sqlite"
    statement = "PRAGMA foreign_keys = OFF" if is_sqlite else "SET LOCAL session_replication_role = replica"
    connection.exec_driver_sql(statement)


def _clear(url: str) -> None:
    """Delete all rows; that is faster than another database for each test."""
    going = [str(delete(table)) for table in reversed(Table.metadata.sorted_tables)]
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
        connection.exec_driver_sql("; ".join(going))

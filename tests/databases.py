"""The databases of registries in tests: SQLite files, or those of a PostgreSQL server with TEST_DATABASE.

``TEST_DATABASE=postgresql pytest tests/migrate`` runs them on PostgreSQL: what asks for ``empty_database``,
and the databases of data directories (``tests.directories``). What is about SQLite is skipped.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, delete

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
    going = "; ".join(str(delete(table)) for table in reversed(Table.metadata.sorted_tables))
    _kept_connection(url).execute(going.encode())


@cache
def _kept_connection(url: str) -> "psycopg.Connection[Any]":
    """Return a connection that lasts as long as this process: the server needs a while for each."""
    address = url.replace("+psycopg", "")
    connection = psycopg.connect(address, autocommit=True, options="-c lock_timeout=10s")
    atexit.register(connection.close)  # before the server ends
    return connection

"""Copies of a catalog: all of it at one instant as an SQLite file, and the rows of one in another database.

Both databases have the schema of this version, so a copy of PostgreSQL can be restored to SQLite, and back.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, delete, exists, func, insert, select

from dualreg.catalog.database import Catalog
from dualreg.catalog.dialects import READ_ONLY
from dualreg.catalog.tables import Blobs, RepositoryBlobs, Table, Uploads
from dualreg.catalog.upgrade import upgrade

#: Rows that are in memory at a time.
_BATCH = 1000


def open_copy(path: Path) -> Catalog:
    """Return the catalog in an SQLite file; it is created if it does not exist, for its owner only."""
    return Catalog(f"sqlite:///{path.absolute()}")


def snapshot(catalog: Catalog, path: Path) -> None:
    """Write a catalog as it is at one instant to a new SQLite file, while it is in use.

    Uploads are left out, and blobs that no repository has: their bytes may be deleted at any time.

    Raises:
        OSError, DatabaseFailure: the file cannot be written, or the catalog fails.
    """
    with closing(open_copy(path)) as copy:
        if catalog.engine.dialect.name == "sqlite":
            _copy_pages(catalog, path)
        else:
            upgrade(copy)
            with catalog.engine.connect() as source, copy.engine.begin() as target:
                source.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                _copy_rows(source, target)
        with copy.engine.begin() as connection:
            connection.execute(delete(Uploads))
            linked = exists().where(RepositoryBlobs.digest == Blobs.digest)
            connection.execute(delete(Blobs).where(~linked))


def load(copy: Catalog, catalog: Catalog) -> None:
    """Replace all rows of a catalog with those of a copy, in one transaction."""
    with copy.engine.connect() as source, catalog.engine.begin() as target:
        for table in reversed(Table.metadata.sorted_tables):
            target.execute(delete(table))
        _copy_rows(source, target)
        if target.dialect.name == "postgresql":
            _restart_counters(target)
    catalog.settle()


def measure(catalog: Catalog) -> tuple[int, int]:
    """Return the number of blobs, and their size in bytes."""
    with catalog.engine.connect() as connection:
        row = connection.execute(select(func.count(), func.coalesce(func.sum(Blobs.size), 0))).one()
    return int(row[0]), int(row[1])


def _copy_pages(catalog: Catalog, path: Path) -> None:
    """Copy the pages of an SQLite database, which waits for no writer and keeps none waiting.

    Source: sqlite.org/backup.html; in WAL mode, a copy in one step is one read transaction.
    """
    reader = catalog.engine.execution_options(**{READ_ONLY: True})
    with reader.connect() as connection, closing(sqlite3.connect(path)) as target:
        source = connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)  # noqa: S101 -- the dialect says so
        source.backup(target)


def _copy_rows(source: Connection, target: Connection) -> None:
    for table in Table.metadata.sorted_tables:
        rows = source.execute(select(table).execution_options(yield_per=_BATCH))
        for batch in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in batch])


def _restart_counters(target: Connection) -> None:
    """Have PostgreSQL number new rows after those that were copied with their numbers."""
    for table in Table.metadata.sorted_tables:
        for column in table.columns:
            if column.identity is not None:
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                last = select(func.coalesce(func.max(column), 1)).scalar_subquery()
                target.execute(select(func.setval(sequence, last)))

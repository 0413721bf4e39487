"""The catalog as a whole: how large it is, and how many rows each table has."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, inspect, select

from dualreg.catalog.database import Catalog
from dualreg.catalog.figures import count_rows
from dualreg.catalog.integrity import file_of
from dualreg.catalog.tables import Table


@dataclass(frozen=True, slots=True)
class Overview:
    """A catalog as a whole.

    Attributes:
        kind: ``sqlite`` or ``postgresql``.
        size: In bytes, with indexes, and on SQLite with the write-ahead log.
        rows: The number of rows of each table that there is.
    """

    kind: str
    size: int
    rows: Mapping[str, int]


def look(catalog: Catalog) -> Overview:
    """Return an overview; tables that a migration has not made yet are left out.

    Raises:
        DatabaseFailure: the database fails.
    """
    engine = catalog.engine
    with catalog.read() as tx:
        existing = {*inspect(tx.connection).get_table_names()}
        rows = count_rows(tx.connection, *(name for name in Table.metadata.tables if name in existing))
        return Overview(engine.dialect.name, size_of(catalog, tx.connection), rows)


def size_of(catalog: Catalog, connection: Connection) -> int:
    """Return the size of a catalog in bytes, as in ``Overview``, given one of its connections."""
    file = file_of(catalog.engine.url.render_as_string(hide_password=False))
    return _files(file) if file else _database(connection)


def _files(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return sum(each.stat().st_size for each in (path, log) if each.exists())


def _database(connection: Connection) -> int:
    return int(connection.scalar(select(func.pg_database_size(func.current_database()))) or 0)

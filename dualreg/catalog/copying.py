"""Copies of a catalog: its rows in another database, and all of it at one instant as an SQLite file.

Both databases have the schema of this version, so a catalog can go from either kind to either kind.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    bindparam,
    delete,
    exists,
    func,
    select,
    text,
)
from sqlalchemy import Table as SqlTable

from dualreg.catalog.database import Catalog
from dualreg.catalog.dialects import READ_ONLY, batches, insert_for
from dualreg.catalog.notes import Note
from dualreg.catalog.tables import (
    Blobs,
    DeletedBlobs,
    DeletedImages,
    DeletedManifests,
    DeletedRepositories,
    RepositoryBlobs,
    ServiceState,
    Table,
    TagHistory,
    Uploads,
    WebhookEvents,
    WebhookStates,
)
from dualreg.catalog.upgrade import upgrade

#: Rows that are in memory, and that a transaction writes, at a time.
_BATCH = 1000

#: Called with the rows that are done since the last call, and 0.
Advance = Callable[[int, int], object]
_Row = dict[str, Any]
#: Stands for a row after the last one.
_END: tuple[tuple[Any, ...], None] = ((), None)
#: What has numbers of moves of tags: those that webhooks have looked at may be forgotten, and not used again.
_MOVES = (TagHistory.id, WebhookStates.position, WebhookEvents.id)
#: Have SQLite use greater ones.  Source: sqlite.org/autoinc.html
_NUMBERED = text("UPDATE sqlite_sequence SET seq = max(seq, :last) WHERE name = 'tag_history'")
_NEW_NUMBERED = text(
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'tag_history', :last "
    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'tag_history')"
)
#: Sums of SHA-256 are as long as one.
_SUMS = 1 << 256


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows of a table: how many there are, and the sum of their SHA-256, which no order changes."""

    rows: int
    digest: str


def open_copy(path: Path) -> Catalog:
    """Return the catalog in an SQLite file; it is created if it does not exist, for its owner only."""
    return Catalog(f"sqlite:///{path.absolute()}")


def snapshot(catalog: Catalog, path: Path) -> None:
    """Write a catalog as it is at one instant to a new SQLite file, while it is in use.

    Uploads are left out, and blobs that no repository has: their bytes may be deleted at any time. So is what
    could be restored, since it consists of such blobs.

    Raises:
        OSError, DatabaseFailure: the file cannot be written, or the catalog fails.
    """
    with closing(open_copy(path)) as copy:
        if catalog.engine.dialect.name == "sqlite":
            _copy_pages(catalog, path)
        else:
            upgrade(copy)
            with at_one_instant(catalog) as source:
                copy_rows(source, copy)
        with copy.engine.begin() as connection:
            connection.execute(delete(Uploads))
            linked = exists().where(RepositoryBlobs.digest == Blobs.digest)
            connection.execute(delete(Blobs).where(~linked))
            for table in (DeletedRepositories, DeletedManifests, DeletedImages, DeletedBlobs):
                connection.execute(delete(table))


@contextmanager
def at_one_instant(catalog: Catalog) -> Iterator[Connection]:
    """Yield a connection that sees a catalog as it is at one instant, however long the block lasts."""
    engine = catalog.engine.execution_options(**{READ_ONLY: True})
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        _allow_pauses(connection)
        yield connection


def copy_rows(
    source: Connection,
    target: Catalog,
    advance: Advance = lambda *_: None,
    stop: Event | None = None,
) -> bool:
    """Make the rows of *target* those of *source*, by short transactions.

    Rows that are the same stay, so a copy that was interrupted goes on where it stopped, and may follow
    changes of the source. ``Note.COPY`` is left as it is in both.

    Args:
        source: As ``at_one_instant``.
        stop: Ends it after a transaction.

    Return whether it is complete.

    Raises:
        DatabaseFailure: either database fails, or the target cannot store a value.
    """
    stop = stop or Event()
    for table in reversed(Table.metadata.sorted_tables):
        _delete_others(source, target, table, stop)
    for table in Table.metadata.sorted_tables:
        _write_rows(source, target, table, advance, stop)
    if not stop.is_set():
        _conclude(target)
    return not stop.is_set()


def summarize(connection: Connection, advance: Advance = lambda *_: None) -> Mapping[str, Summary]:
    """Return what the rows of each table are, the same in either kind of database."""
    return {table.name: _summarize(connection, table, advance) for table in Table.metadata.sorted_tables}


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


def _delete_others(source: Connection, target: Catalog, table: SqlTable, stop: Event) -> None:
    """Delete the rows of a table that the source does not have.

    And those that it has otherwise, if no other table refers to them: a new row may be as unique as them.
    """
    tables = Table.metadata.sorted_tables
    is_referred = any(key.column.table is table for each in tables for key in each.foreign_keys)
    statement = delete(table).where(*(key == bindparam(f"old_{key.name}") for key in table.primary_key))
    with target.read() as tx:
        if tx.connection.execute(select(1).select_from(table).limit(1)).first() is None:
            return
        others = (
            {f"old_{key.name}": other[key.name] for key in table.primary_key}
            for row, other in _pairs(table, source, tx.connection)
            if other is not None and (row is None or (row != other and not is_referred))
        )
        for batch in batches(others, _BATCH):
            if stop.is_set():
                return
            with target.engine.begin() as connection:
                connection.execute(statement, batch)


def _write_rows(source: Connection, target: Catalog, table: SqlTable, advance: Advance, stop: Event) -> None:
    """Write the rows of a table that the target does not have, or has otherwise."""
    statement = insert_for(target.engine.dialect.name, table)
    values = {column.name: statement.excluded[column.name] for column in table.columns}
    statement = statement.on_conflict_do_update(index_elements=[*table.primary_key], set_=values)
    with target.read() as tx:
        for batch in batches(_pairs(table, source, tx.connection), _BATCH):
            if stop.is_set():
                return
            changed = [row for row, other in batch if row is not None and row != other]
            if changed:
                with target.engine.begin() as connection:
                    connection.execute(statement, changed)
            advance(len(batch), 0)


def _pairs(
    table: SqlTable, source: Connection, target: Connection
) -> Iterator[tuple[_Row | None, _Row | None]]:
    """Yield the rows of a table in both databases, those with the same key together, in the order of keys."""
    _allow_pauses(target)
    rows, others = _by_key(source, table), _by_key(target, table)
    (key, row), (other_key, other) = next(rows, _END), next(others, _END)
    while row is not None or other is not None:
        is_ours = other is None or (row is not None and key <= other_key)
        is_theirs = row is None or (other is not None and other_key <= key)
        yield row if is_ours else None, other if is_theirs else None
        if is_ours:
            key, row = next(rows, _END)
        if is_theirs:
            other_key, other = next(others, _END)


def _allow_pauses(connection: Connection) -> None:
    """Let a transaction of PostgreSQL do nothing for long, while another one writes what it has read."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _by_key(connection: Connection, table: SqlTable) -> Iterator[tuple[tuple[Any, ...], _Row]]:
    """Yield the rows of a table by key, in an order that both databases and Python have: texts by bytes."""
    keys = [*table.primary_key]
    is_sorted = connection.dialect.name == "sqlite"
    order = [key if is_sorted or isinstance(key.type, Integer) else key.collate("C") for key in keys]
    with connection.execute(_rows_of(table).order_by(*order)) as rows:
        for row in rows.mappings():
            values = (row[key.name] for key in keys)
            yield tuple(value if isinstance(value, int) else str(value) for value in values), dict(row)


def _rows_of(table: SqlTable) -> Select[*tuple[Any, ...]]:
    """Return the query of a table's rows, which are fetched a number at a time."""
    query = select(table).execution_options(yield_per=_BATCH)
    return query.where(table.c.name != Note.COPY) if table is ServiceState.__table__ else query


def _summarize(connection: Connection, table: SqlTable, advance: Advance) -> Summary:
    count = total = 0
    for batch in batches(connection.execute(_rows_of(table)), _BATCH):
        for row in batch:
            line = dumps([*row], default=str, sort_keys=True)
            total += int.from_bytes(sha256(line.encode()).digest())
        count += len(batch)
        advance(len(batch), 0)
    return Summary(count, f"{total % _SUMS:064x}")


def _conclude(target: Catalog) -> None:
    """Have new rows numbered after those that were copied with their numbers; PostgreSQL plans for them."""
    target.settle()
    with target.engine.begin() as connection:
        moves = max(connection.scalar(select(func.max(column))) or 0 for column in _MOVES)
        if connection.dialect.name == "sqlite" and moves:
            connection.execute(_NUMBERED, {"last": moves})
            connection.execute(_NEW_NUMBERED, {"last": moves})
    if target.engine.dialect.name != "postgresql":
        return
    with target.engine.begin() as connection:
        for table in Table.metadata.sorted_tables:
            for column in (each for each in table.columns if each.identity is not None):
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                least = moves if table is TagHistory.__table__ else 0
                last = max(connection.scalar(select(func.max(column))) or 1, least)
                connection.execute(select(func.setval(sequence, last)))
            connection.exec_driver_sql(f"ANALYZE {table.name}")

"""Writer: the connection to SQLite on which transactions that write follow each other.

To take one out of the pool for each, and to set how long it waits for locks, takes as long as a short
transaction. So does a transaction of SQLAlchemy: here, it is one of the driver's. SQLAlchemy begins its own
within it if it executes a statement, and ends both then.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine

from dualreg.catalog.dialects import PAGES, begin_writing, failure, keep_pages, own_connection


class Writer:
    """Begins transactions, one at a time."""

    def __init__(self, engine: Engine) -> None:
        """Write to the database of *engine*, without connecting yet."""
        self._engine = engine
        self._idle: Connection | None = None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction for the block, as ``Engine.begin``. The caller lets one thread in at a time."""
        connection, self._idle = self._idle or self._connect(), None
        try:
            own = own_connection(connection)
            begin_writing(connection, own)
            yield connection
            if connection.in_transaction():
                connection.commit()
            else:
                _commit(connection, own)
            self._idle = connection
        finally:
            if self._idle is None:
                _end(connection)  # one that has failed is rolled back, and not used again

    def close(self) -> None:
        """Close the connection. The next transaction opens another one."""
        connection, self._idle = self._idle, None
        if connection:
            _end(connection)

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        own = own_connection(connection)
        keep_pages(own, PAGES)  # all that a transaction changes, as it is written to the disk anew otherwise
        own.execute("PRAGMA busy_timeout = 0")
        return connection


def _commit(connection: Connection, own: sqlite3.Connection) -> None:
    try:
        own.commit()
    except sqlite3.Error as error:
        raise failure(connection, error, "COMMIT") from error


def _end(connection: Connection) -> None:
    """Close a connection; the pool must not give it to those who wait for locks.

    SQLite closes it, and ends its transaction, only when nobody has a result that was not read to its end: an
    error that is being handled may.
    """
    with suppress(sqlite3.Error):
        own_connection(connection).rollback()
    connection.invalidate()
    connection.close()

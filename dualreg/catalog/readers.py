"""Readers: connections to SQLite on which those that only read follow each other.

To take one out of the pool, and to give it back, takes longer than to find a row.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

#: Connections that are kept while nobody reads; others go back to the pool, of which they are a part.
_KEPT = 4


class Readers:
    """Gives each reader a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        """Read the database of *engine*, with the option READ_ONLY, without connecting yet."""
        self._engine = engine
        self._idle = list[Connection]()  # whose methods are atomic

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection for the block, as ``Engine.connect``."""
        connection = self._take()
        try:
            yield connection
            connection.rollback()  # which ends what SQLAlchemy takes for a transaction
        except BaseException:
            connection.close()  # it may have failed
            raise
        if len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            self._take().close()

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._engine.connect()

"""Readers: connections to SQLite on which those that only read follow each other.

To take one out of the pool, and to give it back, takes longer than to find a row.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine

#: Connections that are kept while nobody reads; others go back to the pool, of which they are a part.
_KEPT = 4


class Readers:
    """Gives each reader a connection of its own."""

    def __init__(self, engine: Engine, pool_size: int) -> None:
        """Read the database of *engine*, with the option READ_ONLY, without connecting yet.

        Args:
            pool_size: As of the engine. If it is small, most are left to those who do not only read.
        """
        self._engine, self._kept = engine, min(_KEPT, pool_size - 1)
        self._idle = list[Connection]()  # whose methods are atomic
        self._asking = list[None]()  # one for each who asks the pool, which may have none

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
        self._idle.append(connection)
        if self._asking or len(self._idle) > self._kept:
            self._give_back()

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            self._give_back()

    def _give_back(self) -> None:
        """Give one that nobody uses back to the pool, if there still is one."""
        with suppress(IndexError):
            self._idle.pop().close()

    def _take(self) -> Connection:
        if self._idle:
            with suppress(IndexError):
                return self._idle.pop()
        self._asking.append(None)
        try:
            with suppress(IndexError):  # whoever has not seen that this one asks has left it here before
                return self._idle.pop()
            return self._engine.connect()
        finally:
            self._asking.pop()

"""Versions of the whole database: proof that nothing has been committed since an earlier look."""

import sqlite3
from collections.abc import Hashable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

_SNAPSHOT = (
    "SELECT pg_current_snapshot()::text, pg_postmaster_start_time()::text WHERE NOT pg_is_in_recovery()"
)


class Versions(Protocol):
    """Looks at the version of a database. Threads may share it; after a fork, create another one."""

    def current(self, *, wait: bool) -> Hashable | None:
        """Return a value that differs from all earlier ones if a transaction was committed in between.

        If two values are equal, every query returns the same at both times.

        Args:
            wait: Whether to wait for threads and the database; otherwise None is returned instead.

        Raises:
            SQLAlchemyError, sqlite3.Error: the database fails.
        """

    def close(self) -> None:
        """Close the connection; ``current`` opens another one."""


def versions_of(engine: Engine) -> Versions:
    """Return what looks at the version of the database of *engine*."""
    if engine.dialect.name == "postgresql":
        return _Snapshots(engine)
    file = engine.url.database
    return _DataVersions(file) if file and file != ":memory:" else _Unknown()


class _DataVersions:
    """SQLite's own count of commits, as a connection sees it that never writes, and never waits for a lock.

    Source: SQLite, "PRAGMA data_version".
    """

    def __init__(self, file: str) -> None:
        self._uri = f"{Path(file).absolute().as_uri()}?mode=rw"
        self._opened: tuple[object, sqlite3.Connection] | None = None
        self._lock = Lock()

    def current(self, *, wait: bool) -> Hashable | None:
        if not self._lock.acquire(blocking=wait):
            return None
        try:
            if wait and not self._opened:
                self._opened = self._open()
            return _look(*self._opened) if self._opened else None
        finally:
            self._lock.release()

    def _open(self) -> tuple[object, sqlite3.Connection]:
        """Return a connection, and what tells it apart from others: counts of two cannot be compared."""
        connection = sqlite3.connect(
            self._uri, timeout=0, uri=True, check_same_thread=False, isolation_level=None
        )
        return object(), connection

    def close(self) -> None:
        with self._lock:
            if self._opened:
                self._opened[1].close()
            self._opened = None


def _look(opening: object, connection: sqlite3.Connection) -> tuple[object, int]:
    return opening, connection.execute("PRAGMA data_version").fetchone()[0]


class _Snapshots:
    """PostgreSQL's snapshots: which transactions a query sees.

    A transaction that writes changes it when it begins to, and when it ends. Not on a standby, whose
    snapshots do not list the transactions in progress. A server that took over, or was restored, may come to
    the same number again, with other transactions before it; it was started at another time.

    Source: PostgreSQL, "Transaction ID and Snapshot Information Functions".
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")  # one statement, not three

    def current(self, *, wait: bool) -> Hashable | None:
        if not wait:
            return None
        row = self._observed() if self._engine.dispatch.before_cursor_execute else self._look()
        return object() if row is None else tuple(row)

    def _observed(self) -> Sequence[Any] | None:
        """Look by SQLAlchemy, for those who listen to what that executes."""
        with self._autocommit.connect() as connection:
            return connection.execute(text(_SNAPSHOT)).one_or_none()

    def _look(self) -> Sequence[Any] | None:
        """Look by the driver, in a third of the time: every answer that is repeated takes a look.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        error_class = self._engine.dialect.loaded_dbapi.Error
        try:
            with closing(self._engine.raw_connection()) as pooled:
                try:
                    return self._ask(pooled.driver_connection)
                except BaseException as error:
                    pooled.invalidate(error)
                    raise
        except error_class as error:
            raise DBAPIError.instance(_SNAPSHOT, None, error, error_class) from error

    def _ask(self, connection: Any) -> Sequence[Any] | None:  # noqa: ANN401 -- the driver's
        connection.autocommit = True
        row: Sequence[Any] | None = connection.execute(_SNAPSHOT).fetchone()
        connection.autocommit = False
        return row

    def close(self) -> None: ...


class _Unknown:
    """A database in memory, of which nothing can be proved: no two values are equal."""

    def current(self, *, wait: bool) -> Hashable:  # noqa: ARG002 -- it never waits
        return object()

    def close(self) -> None: ...

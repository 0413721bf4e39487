"""The differences between SQLite and PostgreSQL: connections, upserts, and limits of statements."""

import hashlib
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    String,
    UpdateBase,
    and_,
    case,
    create_engine,
    event,
    false,
    make_url,
    or_,
    select,
    text,
    true,
)
from sqlalchemy import Table as SqlTable
from sqlalchemy import values as row_values
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.orm import QueryableAttribute

from dualreg.catalog.clock import DatabaseClock
from dualreg.catalog.tables import Table
from dualreg.catalog.waiting import PATIENCE
from dualreg.errors import CatalogUnreachable
from dualreg.patterns import LIKE_ESCAPE, Reach, has_wildcard, to_like

#: Seconds between two looks at a lock that another process holds, at first and later.
_PAUSE, _LONGEST_PAUSE = 0.0001, 0.005
#: The part of an error code of SQLite that is the same for all kinds of an error.
_PRIMARY = 0xFF
#: Pages of the write-ahead log, of 4 KiB, after which they are copied to the database. The request that does
#: so waits for the disk twice. A push of a blob writes some thirty, and most are the same each time.
_CHECKPOINT = 4000
#: KiB of pages that a connection keeps in memory. Those that read for a command are few: its threads have a
#: connection each, and hardly read a page twice.
PAGES, _FEW_PAGES = 16 << 10, 2 << 10
#: Execution option of connections that only read. On SQLite they begin no transaction: no reader depends on
#: two statements seeing the same state.
READ_ONLY = "dualreg_read_only"

_LOCKING = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")

#: Under this key a connection notes that a watched table was changed.
_CHANGED = "dualreg_changed"

Insert = postgresql.Insert | sqlite.Insert
Value = TypeVar("Value")

#: How URLs of databases are written.
_GRAMMAR = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
#: Limit of the values in a statement; that of SQLite is 32,766 by default.
_VALUES_LIMIT = 10_000
#: Limit of the LIKE conditions in a statement; more patterns become a table.
_DEPTH = 100


def parse_url(url: str) -> URL:
    """Return the URL of a database.

    Raises:
        CatalogUnreachable: it is malformed, or for another database or driver than ours.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise CatalogUnreachable(f"invalid URL of a database; expected {_GRAMMAR}") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise CatalogUnreachable(f'unknown database "{parsed.drivername}"; expected {_GRAMMAR}')
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"):
        raise CatalogUnreachable(f'unknown driver in "{parsed.drivername}"; expected {_GRAMMAR}')
    return parsed


def open_engine(
    url: str,
    *,
    pool_size: int,
    few_pages: bool = False,
    timeout: float | None = None,
    clock: DatabaseClock | None = None,
) -> Engine:
    """Return an engine for *url* with up to *pool_size* connections; on SQLite, twice as many under load.

    Args:
        few_pages: Whether those to SQLite keep few pages in memory.
        timeout: Seconds that a statement may take on PostgreSQL; None: as long as it needs.
        clock: Is set by that of PostgreSQL.

    Raises:
        CatalogUnreachable: as ``parse_url``, or the driver of the database is not installed.
    """
    database = parse_url(url)
    if database.get_backend_name() == "sqlite":
        return _open_sqlite(url, pool_size, _FEW_PAGES if few_pages else PAGES)
    try:
        from dualreg.catalog.postgresql import open_postgresql  # noqa: PLC0415 -- its driver is optional
    except ImportError as error:
        raise CatalogUnreachable(
            f"the driver of {database.drivername} is not installed: {error}; install the packages of "
            "dualreg[postgresql]"
        ) from error
    return open_postgresql(database, pool_size=pool_size, timeout=timeout, clock=clock or DatabaseClock())


def watch_changes(engine: Engine, tables: Collection[str]) -> None:
    """Have ``has_changed`` say which transactions change *tables*."""
    event.listen(engine, "begin", _forget_changes)

    @event.listens_for(engine, "after_execute")
    def note(connection: Connection, statement: Executable, *_: object) -> None:
        if isinstance(statement, UpdateBase) and getattr(statement.table, "name", "") in tables:
            connection.info[_CHANGED] = True


def _forget_changes(connection: Connection) -> None:
    connection.info.pop(_CHANGED, None)


def has_changed(connection: Connection) -> bool:
    """Return whether the transaction of *connection* has changed a table that is watched."""
    return _CHANGED in connection.info


def insert(connection: Connection, table: type[Table]) -> Any:  # noqa: ANN401 -- the two Inserts share no typed base with ON CONFLICT
    """Return the INSERT of the connection's dialect; both have the same methods for ON CONFLICT."""
    return insert_for(connection.dialect.name, table)


def insert_for(dialect: str, table: type[Table] | SqlTable) -> Any:  # noqa: ANN401 -- as above
    """Return the INSERT of a dialect, for statements that are cached, or for a table without its class."""
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


def lock_names(connection: Connection, names: Iterable[str]) -> None:
    """Lock names, also of what has no row yet, until the transaction ends; in one order.

    On SQLite, there is one transaction that writes at a time.
    """
    if connection.dialect.name != "postgresql":
        return
    connection.execute(_LOCKING, {"keys": sorted(map(lock_key, names))})


def bar_writes(connection: Connection, table: type[Table]) -> None:
    """Wait for transactions that have locked rows of a table, and let others wait until this one ends.

    On SQLite, there is one transaction that writes at a time.

    Source: PostgreSQL, "Table-Level Locks": EXCLUSIVE conflicts with the ROW SHARE of SELECT … FOR KEY SHARE.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {table.__tablename__} IN EXCLUSIVE MODE"))


def lock_key(name: str) -> int:
    """Return the number of an advisory lock of PostgreSQL that stands for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def within(column: QueryableAttribute[str], reach: Reach) -> ColumnElement[bool]:
    """Return the condition that *reach* covers the repository whose name is in *column*."""
    limiting = [group for group in reach.groups if "*" not in group]  # "*" matches everything
    return and_(true(), *(_matches_any(column, group) for group in limiting))


def _matches_any(column: QueryableAttribute[str], patterns: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that one of *patterns* matches."""
    names = [each for each in patterns if not has_wildcard(each)]
    likes = [to_like(each) for each in patterns if has_wildcard(each)]
    among = [column.in_(names)] if names else []  # an empty list takes half as long as LIKE
    if len(likes) <= _DEPTH:
        return or_(false(), *among, *(column.like(each, escape=LIKE_ESCAPE) for each in likes))
    # SQLite limits the depth of an expression, but not the length of a table.
    table = row_values(Column("pattern", String), name="patterns").data([(each,) for each in likes]).cte()
    matching = select(table.c.pattern).where(column.like(table.c.pattern, escape=LIKE_ESCAPE))
    return or_(*among, matching.exists())


def as_number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return 1 where a condition holds, else 0: a value, by which SQLite looks for no rows."""
    return case((condition, 1), else_=0)


def batches(values: Iterable[Value], size: int = _VALUES_LIMIT) -> Iterator[list[Value]]:
    """Yield *values* in lists of *size*; by default, they fit into one statement in either database."""
    rest = iter(values)
    while batch := [*islice(rest, size)]:
        yield batch


def hasten(engine: Engine) -> None:
    """Do not wait for the disk with each commit from now on; a power cut may take the last ones back."""
    if engine.dialect.name == "sqlite":
        return  # ``catalog.commits`` waits

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


def _open_sqlite(url: str, pool_size: int, pages: int) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={"timeout": PATIENCE},
    )
    event.listen(engine, "connect", lambda connection, _: _configure(connection, pages))
    event.listen(engine, "begin", _begin)
    return engine


def own_connection(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection to SQLite."""
    own = connection.connection.driver_connection
    assert isinstance(own, sqlite3.Connection)  # noqa: S101 -- the driver of this engine
    return own


def keep_pages(own: sqlite3.Connection, pages: int) -> None:
    """Let a connection keep so many KiB of pages in memory."""
    own.execute(f"PRAGMA cache_size = -{pages}")


def _configure(connection: sqlite3.Connection, pages: int) -> None:
    """Disable the implicit transactions of ``sqlite3``, and configure the connection.

    Readers and the writer do not block each other (WAL). With NORMAL, the database is never malformed after a
    power cut; that commits survive it is for ``catalog.commits``.
    """
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"wal_autocheckpoint = {_CHECKPOINT}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    keep_pages(connection, pages)


def _begin(connection: Connection) -> None:
    """Take the write lock at once: a read transaction that is upgraded later fails instead of waiting."""
    own = own_connection(connection)
    if own.in_transaction or connection.get_execution_options().get(READ_ONLY):
        return
    own.execute("PRAGMA busy_timeout = 0")
    try:
        begin_writing(connection, own)
    finally:
        own.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000}")


def begin_writing(connection: Connection, own: sqlite3.Connection) -> None:
    """Begin a transaction with the write lock, on a connection that does not wait for locks itself.

    SQLite would look for the lock after 1, 2, 5, 10 and up to 100 milliseconds; most hold it for one.

    Args:
        own: Of the *connection*.

    Raises:
        DBAPIError: another one holds it for long, or the database fails.
    """
    _forget_changes(connection)
    pause, until = _PAUSE, time.monotonic() + PATIENCE
    while True:
        try:
            own.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            is_busy = getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > until:
                raise failure(connection, error, "BEGIN IMMEDIATE") from error
        else:
            return
        time.sleep(pause)
        pause = min(pause * 1.2, _LONGEST_PAUSE)


def failure(
    connection: Connection, error: sqlite3.Error, text: str, values: Sequence[object] = ()
) -> StatementError:
    """Return the error that SQLAlchemy raises for one of SQLite's driver.

    Args:
        text, values: The statement that has failed, and its parameters.
    """
    return DBAPIError.instance(
        text, values, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
    )

"""What differs between SQLite and PostgreSQL: how a connection begins, how a row is upserted or matched."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    String,
    and_,
    create_engine,
    event,
    make_url,
    or_,
    select,
    true,
)
from sqlalchemy import values as row_values
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import QueryableAttribute

from dualreg.catalog.tables import Table
from dualreg.image.reach import Reach

#: Seconds a SQLite writer waits for another one.
_BUSY_SECONDS = 30
#: Execution option of connections that only read. SQLite's need no transaction, since no answer depends on
#: two statements seeing the same state.
READ_ONLY = "dualreg_read_only"

Insert = postgresql.Insert | sqlite.Insert
Value = TypeVar("Value")

#: Values in one statement; SQLite takes 32,766 unless it was built otherwise.
_VALUES_LIMIT = 10_000
#: Conditions of one kind in a statement; more are a table of their own.
_DEPTH = 100


def open_engine(url: str, *, pool_size: int) -> Engine:
    """Return an engine for *url*.

    It keeps up to *pool_size* connections open, and opens as many again under load.
    """
    if make_url(url).get_backend_name() == "sqlite":
        return _open_sqlite(url, pool_size)
    return create_engine(
        url, hide_parameters=True, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True
    )


def insert(connection: Connection, table: type[Table]) -> Any:  # noqa: ANN401 -- the two Inserts share no typed base with ON CONFLICT
    """Return the dialect's own INSERT, which knows ON CONFLICT; both dialects spell it alike."""
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


def within(column: QueryableAttribute[str], reach: Reach) -> ColumnElement[bool]:
    """Return the condition that *column* names a repository of *reach*.

    Names and patterns have small letters only, so it does not matter that SQLite's LIKE knows no others.
    """
    wanted = [group for group in reach.groups if "*" not in group]
    return and_(true(), *(_is_one_of(column, group) for group in wanted))


def _is_one_of(column: QueryableAttribute[str], patterns: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that one of *patterns* matches."""
    names = [each for each in patterns if "*" not in each]
    globs = [_like(each) for each in patterns if "*" in each]
    if len(globs) <= _DEPTH:
        return or_(column.in_(names), *(column.like(each, escape="!") for each in globs))
    # SQLite takes no expression that deep, but a table of any length.
    table = row_values(Column("pattern", String), name="globs").data([(each,) for each in globs]).cte()
    matching = select(table.c.pattern).where(column.like(table.c.pattern, escape="!"))
    return or_(column.in_(names), matching.exists())


def _like(pattern: str) -> str:
    return "".join({"*": "%", "_": "!_"}.get(letter, letter) for letter in pattern)


def batches(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Yield *values* in lists that are short enough for one statement, in either database."""
    rest = iter(values)
    while batch := [*islice(rest, _VALUES_LIMIT)]:
        yield batch


def _open_sqlite(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={"timeout": _BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        """Take transactions into our own hands.

        Readers never block the writer; a commit survives a power cut.
        """
        connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "cache_size = -16384",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        """Take the write lock at once: upgrading a read transaction later fails instead of waiting."""
        if not connection.get_execution_options().get(READ_ONLY):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine

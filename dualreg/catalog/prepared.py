"""Prepared: the statements of every push and pull, each of which is compiled once.

Whenever SQLAlchemy executes an expression, it looks for its text by its structure, and for what converts each
value by its column, which takes several times as long as SQLite takes for the statement. Here, that is found
when the statement is first executed, and its text goes to the driver. On PostgreSQL, the way to the server
takes longer than both, and SQLAlchemy executes all.

A statement is one object, which the function that makes it caches. Its parameters are the same each time. It
writes to no table that ``dialects.watch_changes`` watches.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, CursorResult, Dialect, bindparam
from sqlalchemy.sql.compiler import SQLCompiler

from dualreg.catalog.dialects import failure

#: Statements that are remembered, each with the dialect of an engine.
_REMEMBERED = 256

_Convert = Callable[[Any], Any]
_Converted = tuple[int, _Convert]
_Row = tuple[Any, ...]
Values = Mapping[str, object]


class _Prepared(NamedTuple):
    """A statement as the driver gets it.

    Attributes:
        binds: The names of its parameters in their order, and what they are if not given.
        converted: The places of those that are converted, and by what.
        results: The same of the columns of its rows.
    """

    text: str
    binds: tuple[tuple[str, object], ...]
    converted: tuple[_Converted, ...]
    results: tuple[_Converted, ...]

    def values(self, given: Values) -> _Row:
        """Return the parameters for the driver."""
        found = [given.get(name, default) for name, default in self.binds]
        for place, convert in self.converted:
            found[place] = convert(found[place])
        return (*found,)

    def row(self, row: Sequence[Any]) -> _Row:
        """Return a row of the driver with the values that its columns have."""
        if not self.results:
            return (*row,)
        found = [*row]
        for place, convert in self.results:
            found[place] = convert(found[place])
        return (*found,)


def rows(connection: Connection, statement: Any, values: Values) -> list[_Row]:  # noqa: ANN401 -- see insert_for
    """Execute a statement that returns rows, and return these."""
    if connection.dialect.name != "sqlite":
        return [tuple(row) for row in connection.execute(statement, values)]
    prepared = _prepare(statement, connection.dialect, tuple(values), has_rows=True)
    found = _execute(connection, prepared.text, prepared.values(values)).fetchall()
    return [*map(prepared.row, found)]


def row(connection: Connection, statement: Any, values: Values) -> _Row | None:  # noqa: ANN401 -- see insert_for
    """Execute a statement that returns one row at most, and return that."""
    found = rows(connection, statement, values)
    return found[0] if found else None


def change(connection: Connection, statement: Any, values: Values) -> int:  # noqa: ANN401 -- see insert_for
    """Execute a statement that returns no rows; return how many it changed."""
    if connection.dialect.name != "sqlite":
        return connection.execute(statement, values).rowcount
    prepared = _prepare(statement, connection.dialect, tuple(values), has_rows=False)
    return _execute(connection, prepared.text, prepared.values(values)).rowcount


def change_all(connection: Connection, statement: Any, rows: Sequence[Values]) -> None:  # noqa: ANN401 -- see insert_for
    """Execute a statement that returns no rows with each of several sets of values, of which there is one."""
    if connection.dialect.name != "sqlite":
        connection.execute(statement, rows)
        return
    prepared = _prepare(statement, connection.dialect, tuple(rows[0]), has_rows=False)
    _execute(connection, prepared.text, [*map(prepared.values, rows)])


def among(column: Any, name: str, count: int) -> ColumnElement[bool]:  # noqa: ANN401 -- a column of any type
    """Return the condition that *column* is one of *count* values, which ``listed`` makes parameters of."""
    return column.in_([bindparam(f"{name}_{number}", type_=column.type) for number in range(count)])  # type: ignore[no-any-return]  # see above


def listed(name: str, values: Sequence[object]) -> dict[str, object]:
    """Return the parameters of ``among`` for *values*, of which there is one.

    The last one is repeated until their number is a power of two, so that there are few different statements.
    """
    count = 1 << (len(values) - 1).bit_length()
    return {f"{name}_{number}": values[min(number, len(values) - 1)] for number in range(count)}


def _execute(
    connection: Connection, text: str, values: _Row | list[_Row]
) -> CursorResult[Any] | sqlite3.Cursor:
    """Execute a statement by the driver, or by SQLAlchemy if somebody listens to what that executes.

    Args:
        values: Those of one execution, or a list of several.

    Raises:
        DBAPIError: as SQLAlchemy raises it.
    """
    if connection.engine.dispatch.before_cursor_execute:
        return connection.exec_driver_sql(text, values)
    own = cast("sqlite3.Connection", connection.connection.driver_connection)
    try:
        return own.executemany(text, values) if isinstance(values, list) else own.execute(text, values)
    except sqlite3.Error as error:
        raise failure(connection, error, text, values) from error


@lru_cache(maxsize=_REMEMBERED)
def _prepare(
    statement: Any,  # noqa: ANN401 -- see insert_for
    dialect: Dialect,
    names: tuple[str, ...],
    *,
    has_rows: bool,
) -> _Prepared:
    compiled = statement.compile(dialect=dialect, column_keys=[*names])
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 -- of an SQL statement
    binds = [(name, compiled.binds[name]) for name in compiled.positiontup or ()]
    given = (bind.type.dialect_impl(dialect).bind_processor(dialect) for _, bind in binds)
    # A statement remembers its columns, and so do those that are made of it: it must not be asked in vain.
    results = (
        column.type.dialect_impl(dialect).result_processor(dialect, None)
        for column in (statement.exported_columns if has_rows else ())
    )
    defaults = tuple((name, bind.effective_value) for name, bind in binds)
    return _Prepared(compiled.string, defaults, _placed(given), _placed(results))


def _placed(converts: Iterable[_Convert | None]) -> tuple[_Converted, ...]:
    """Return those that there are, with their places."""
    return tuple((place, convert) for place, convert in enumerate(converts) if convert)

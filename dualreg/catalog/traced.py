"""Traced: spans of the transactions of a catalog, and of the statements in them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import event

from dualreg.catalog.database import Catalog, DatabaseFailure
from dualreg.tracing import spans

#: Characters of a statement, whose values are not in it.
_TEXT_LIMIT = 2000
#: Where a connection has the span of what it executes.
_EXECUTED = "dualreg_span"
_Open = Callable[..., AbstractContextManager[Any]]


def trace(catalog: Catalog) -> None:
    """Have spans of what a catalog does for requests that are traced."""
    system = {"db.system.name": catalog.engine.dialect.name}
    for kind, name in (("read", "read"), ("write", "begin")):
        setattr(catalog, name, _traced(f"catalog.{kind}", system, getattr(catalog, name)))
    event.listen(catalog.engine, "before_cursor_execute", _begin)
    event.listen(catalog.engine, "after_cursor_execute", _end)
    event.listen(catalog.engine, "handle_error", _fail)


def _traced(name: str, attributes: spans.Attributes, opened: _Open) -> _Open:
    @contextmanager
    def traced(**options: Any) -> Iterator[Any]:  # noqa: ANN401 -- those of the transaction
        with (
            spans.span(name, attributes, is_call=False, is_failure=_is_failure),
            opened(**options) as transaction,
        ):
            yield transaction

    return traced


def _is_failure(error: BaseException) -> bool:
    return isinstance(error, DatabaseFailure)


def _begin(connection: Any, cursor: object, statement: str, *_: object) -> None:  # noqa: ANN401 -- SQLAlchemy's
    del cursor
    if parent := spans.current():
        attributes = {
            "db.system.name": connection.dialect.name,
            "db.query.text": statement[:_TEXT_LIMIT],
        }
        name = statement.lstrip().partition(" ")[0].partition("\n")[0].upper()
        connection.info[_EXECUTED] = parent.child(name, attributes, is_call=True)


def _end(connection: Any, *_: object) -> None:  # noqa: ANN401 -- SQLAlchemy's
    if executed := connection.info.pop(_EXECUTED, None):
        executed.end()


def _fail(context: Any) -> None:  # noqa: ANN401 -- SQLAlchemy's
    connection = context.connection
    if connection and not connection.closed and (executed := connection.info.pop(_EXECUTED, None)):
        executed.end(type(context.original_exception).__name__)

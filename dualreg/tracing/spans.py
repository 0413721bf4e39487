"""Spans: what the request of this thread does, and for how long, if it is traced.

The span that is open in a thread is the parent of those that begin there. What other threads do for a request
belongs to it only if they were started with ``carried``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar

Attributes = Mapping[str, str | int]
Args = ParamSpec("Args")
Result = TypeVar("Result")


class Span(Protocol):
    """Something that takes time."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty if the trace is not kept."""

    def child(self, name: str, attributes: Attributes, *, is_call: bool) -> "Span":
        """Begin a part of it; see ``span``."""

    def set(self, attributes: Attributes) -> None:
        """Add *attributes*."""

    def headers(self) -> Mapping[str, str]:
        """Return the headers by which another server goes on with the trace.  Source: W3C Trace Context."""

    def end(self, failure: str = "") -> None:
        """End it; *failure* names what went wrong, and is empty if nothing did."""


_open: ContextVar[Span | None] = ContextVar("dualreg_span", default=None)


def current() -> Span | None:
    """Return the span that is open in this thread."""
    return _open.get()


def enter(span: Span | None) -> None:
    """Have *span* be the parent of those that begin in this thread from now on; None: nothing is traced."""
    _open.set(span)


def any_error(error: BaseException) -> bool:
    """Return that it is a failure."""
    del error
    return True


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    *,
    is_call: bool = True,
    is_failure: Callable[[BaseException], bool] = any_error,
) -> Iterator[Span | None]:
    """Have the block be a part of the span that is open in this thread, if any.

    Args:
        name: One of few; what there are many of is in *attributes*.
        is_call: Whether the block waits for another program, or for the disk.
        is_failure: Returns whether an error of the block is a failure of what it does.
    """
    parent = _open.get()
    if parent is None:
        yield None
        return
    child = parent.child(name, attributes, is_call=is_call)
    _open.set(child)
    failure = ""
    try:
        yield child
    except BaseException as error:
        failure = type(error).__name__ if is_failure(error) else ""
        raise
    finally:
        _open.set(parent)
        child.end(failure)


def carried(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Return *function* for another thread, in which the span of this one is open meanwhile."""
    parent = _open.get()
    if parent is None:
        return function

    @wraps(function)
    def traced(*args: Args.args, **options: Args.kwargs) -> Result:
        enter(parent)
        try:
            return function(*args, **options)
        finally:
            enter(None)

    return traced

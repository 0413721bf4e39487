"""Traced: spans of the operations of a store."""

from collections.abc import Callable
from typing import Any

from dualreg.storage.observed import OPERATIONS, is_failure
from dualreg.tracing import spans


def trace(store: object, driver: str) -> None:
    """Have spans of what a store does for requests that are traced.

    That of ``append`` has the time in which its bytes arrive, too.
    """
    for name in OPERATIONS:
        if operation := getattr(store, name, None):
            setattr(store, name, _traced(f"store.{name}", {"dualreg.store": driver}, operation))


def _traced(name: str, attributes: spans.Attributes, operation: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*args: Any, **options: Any) -> Any:  # noqa: ANN401 -- those of the operation
        with spans.span(name, attributes, is_failure=is_failure):
            return operation(*args, **options)

    return traced

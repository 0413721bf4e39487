"""Observed: how long transactions of a catalog take."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import Any

from dualreg.catalog.database import Catalog, DatabaseFailure

#: Called with ``read`` or ``write``, how many seconds it took, and whether the database failed.
Observe = Callable[[str, float, bool], None]
_Open = Callable[..., AbstractContextManager[Any]]


def observe(catalog: Catalog, seen: Observe) -> None:
    """Have *seen* called at the end of each transaction of a catalog from now on."""
    for kind, name in (("read", "read"), ("write", "begin")):
        setattr(catalog, name, _timed(kind, getattr(catalog, name), seen))


def _timed(kind: str, opened: _Open, seen: Observe) -> _Open:
    @contextmanager
    def timed(**options: Any) -> Iterator[Any]:  # noqa: ANN401 -- those of the transaction
        began = perf_counter()
        try:
            with opened(**options) as tx:
                yield tx
        except BaseException as error:
            seen(kind, perf_counter() - began, isinstance(error, DatabaseFailure))
            raise
        seen(kind, perf_counter() - began, False)  # noqa: FBT003 -- as the type says

    return timed

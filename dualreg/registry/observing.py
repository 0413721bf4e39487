"""Observing: how long the catalog and the store of a registry take, for metrics and traces."""

from collections.abc import Callable, Sequence
from functools import partial

from dualreg.catalog import observed as catalog
from dualreg.catalog import traced as traced_catalog
from dualreg.registry.state import State
from dualreg.storage import observed as storage
from dualreg.storage import traced as traced_storage

#: Called with the driver, what was done, how many seconds it took, and whether it failed.
Observe = Callable[[str, str, float, bool], None]


def observe(state: State, drivers: Sequence[str], transaction: Observe, operation: Observe) -> None:
    """Have every transaction and every operation of a store reported from now on.

    Args:
        drivers: The names of the stores that are served as one, in their order.
    """
    catalog.observe(state.catalog, partial(transaction, state.catalog.engine.dialect.name))
    for driver, store in zip(drivers, _stores(state), strict=True):
        storage.observe(store, partial(operation, driver))


def trace(state: State, drivers: Sequence[str]) -> None:
    """Have spans of every transaction and every operation of a store that is part of a traced request.

    Args:
        drivers: As for ``observe``.
    """
    traced_catalog.trace(state.catalog)
    for driver, store in zip(drivers, _stores(state), strict=True):
        traced_storage.trace(store, driver)


def _stores(state: State) -> Sequence[object]:
    stores: Sequence[object] = getattr(state.store, "parts", (state.store,))
    return stores

"""Once: what many tags share, found out for the first of them."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from dualreg.migrate.importer import KeyedLocks

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class SingleFlight(Generic[_K, _V]):
    """What was found out, each by one thread, once, however many ask at the same time."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._found = dict[_K, _V]()
        self._locks = KeyedLocks()

    def of(self, key: _K, find: Callable[[], _V]) -> _V:
        """Return what is known of *key*, having asked *find* if nothing was."""
        if key not in self._found:
            with self._locks.of(key):
                if key not in self._found:
                    self._found[key] = find()
        return self._found[key]

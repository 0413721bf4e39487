"""Disabled accounts: which they are, for tokens, whose verification asks the catalog nothing else."""

from operator import attrgetter
from threading import Lock
from typing import Any

from cachetools import TTLCache, cachedmethod

from dualreg.catalog.database import Catalog

#: Seconds after which a process reads again which accounts are disabled.
_MAX_AGE = 30.0


class DisabledAccounts:
    """The accounts that are disabled, which a process reads every half minute at most."""

    def __init__(self, catalog: Catalog) -> None:
        """Read from *catalog*."""
        self._catalog = catalog
        self._lock = Lock()
        self._cache: TTLCache[Any, frozenset[str]] = TTLCache(1, _MAX_AGE)

    @cachedmethod(attrgetter("_cache"), lock=attrgetter("_lock"))
    def names(self) -> frozenset[str]:
        """Return their names, as they were at most half a minute ago."""
        with self._catalog.read() as tx:
            return tx.accounts.disabled()

"""Endings: which tokens of accounts have ended early. Their verification asks the catalog nothing else."""

import math
from collections.abc import Mapping
from datetime import timedelta
from operator import attrgetter
from threading import Lock
from typing import Any

from cachetools import TTLCache, cachedmethod

from dualreg.catalog.database import Catalog
from dualreg.errors import Unauthenticated

#: Seconds after which a process reads again which accounts are disabled, or have another password.
_MAX_AGE = 30.0


class Endings:
    """Ends the tokens of disabled accounts, and those that are older than the password, within a minute."""

    def __init__(self, catalog: Catalog, lifetime: timedelta) -> None:
        """Read from *catalog*; no token is older than *lifetime*."""
        self._catalog = catalog
        self._lifetime = lifetime
        self._lock = Lock()
        self._cache: TTLCache[Any, Mapping[str, float]] = TTLCache(1, _MAX_AGE)

    def require_valid(self, account: str, issued_at: float) -> None:
        """Check that a token of the account has not ended.

        Args:
            issued_at: When it was issued, in whole seconds since the epoch.

        Raises:
            Unauthenticated: the account is disabled, or has had another password since then.
        """
        ended = self._ended().get(account, 0)
        if issued_at < ended:
            why = f"the account {account} is disabled" if ended == math.inf else "the password has changed"
            raise Unauthenticated(error="invalid_token", reason=why)

    @cachedmethod(attrgetter("_cache"), lock=attrgetter("_lock"))
    def _ended(self) -> Mapping[str, float]:
        """Return since when the tokens of accounts count, as it was at most half a minute ago."""
        with self._catalog.read() as tx:
            rows = tx.accounts.endings(self._catalog.now() - self._lifetime)
        return {name: math.floor(changed.timestamp()) if changed else math.inf for name, changed in rows}

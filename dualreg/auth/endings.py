"""Endings: which tokens of accounts have ended early. Of accounts that there are, that costs no statement."""

import math
from collections.abc import Mapping
from operator import attrgetter
from threading import Lock
from typing import Any

from cachetools import TTLCache, cachedmethod

from dualreg.auth.directories import Directory
from dualreg.catalog.database import Catalog
from dualreg.errors import Unauthenticated

#: Seconds after which a process reads again which accounts there are, and since when their tokens count.
_MAX_AGE = 30.0


class Endings:
    """Ends the tokens of accounts that may not log in any more, or have another password, within a minute."""

    def __init__(self, catalog: Catalog, directory: Directory) -> None:
        """Read from *catalog*; *directory* knows the accounts that are elsewhere, or new."""
        self._catalog = catalog
        self._directory = directory
        self._lock = Lock()
        self._cache: TTLCache[Any, Mapping[str, float]] = TTLCache(1, _MAX_AGE)

    def require_valid(self, account: str, issued_at: float) -> None:
        """Check that a token of the account has not ended.

        Args:
            issued_at: When it was issued, in whole seconds since the epoch.

        Raises:
            Unauthenticated: the account was removed, even if there is another one of that name, or is
                disabled, or has had another password since then, or has to log in by its issuer again.
        """
        since = self._since_of(account)
        if since is None and self._directory.find(account) is None:
            raise Unauthenticated(error="invalid_token", reason=f"the account {account} was removed")
        if since == math.inf:
            raise Unauthenticated(error="invalid_token", reason=f"the account {account} may not log in")
        if since and issued_at < since:
            raise Unauthenticated(error="invalid_token", reason="the account or its password has changed")

    def _since_of(self, account: str) -> float | None:
        """Return since when the tokens of the account count; somebody who may log in again does not wait."""
        since = self._since().get(account)
        if since == math.inf:
            entry = self._directory.find(account)
            if entry and not (entry.disabled or entry.ended):
                with self._lock:
                    self._cache.clear()
                return self._since().get(account)
        return since

    @cachedmethod(attrgetter("_cache"), lock=attrgetter("_lock"))
    def _since(self) -> Mapping[str, float]:
        """Return since when the tokens of accounts count, as it was at most half a minute ago."""
        with self._catalog.read() as tx:
            rows = tx.accounts.endings()
        return {name: math.floor(at.timestamp()) if at else math.inf for name, at in rows}

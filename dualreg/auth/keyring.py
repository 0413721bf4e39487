"""The keys that this registry signs its own tokens with, shared by all its processes."""

from contextlib import suppress
from datetime import timedelta
from operator import attrgetter
from threading import Lock
from typing import Any

from cachetools import TTLCache, cachedmethod

from dualreg.auth.trust import Key
from dualreg.catalog.database import Catalog
from dualreg.catalog.signing import signing_key
from dualreg.image.jws import SigningKey

ALGORITHM = "ES256"
#: What the catalog calls the purpose of these keys.
_PURPOSE = "token"
#: Seconds after which a process reads its keys again.
_MAX_AGE = 60.0
#: Keys that are accepted at the same time: one more for each rotation within the grace period.
_KEYS_LIMIT = 100
#: Characters of the longest key id.
_KID_LIMIT = 64


class Keyring:
    """One key that signs, and its predecessors, which are accepted for a while.

    What is read is cached for a minute; a key that is not accepted is looked up every time, as another
    process may have made it a moment ago.
    """

    def __init__(self, catalog: Catalog) -> None:
        """Read from *catalog*, where the first key is made if there is none."""
        self._catalog = catalog
        self._lock = Lock()
        self._active_cache: TTLCache[Any, SigningKey] = TTLCache(1, _MAX_AGE)
        self._accepted_cache: TTLCache[Any, Key] = TTLCache(_KEYS_LIMIT, _MAX_AGE)

    @cachedmethod(attrgetter("_active_cache"), lock=attrgetter("_lock"))
    def active(self) -> SigningKey:
        """Return the key to sign with."""
        return signing_key(self._catalog, _PURPOSE)

    def key_for(self, header: dict[str, Any]) -> Key | None:
        """Return the key that a token's *header* names, if it is accepted."""
        kid = header.get("kid")
        if isinstance(kid, str) and kid.isascii() and 0 < len(kid) <= _KID_LIMIT:
            with suppress(LookupError):
                return self._accepted(kid)
        return None

    def rotate(self, grace: timedelta) -> tuple[str, int]:
        """Sign with a new key from now on; other processes do so within a minute.

        Args:
            grace: How long tokens signed with older keys are still accepted.

        Returns:
            The new key's id, and the number of older keys that are still accepted.
        """
        new = SigningKey.generate()
        with self._catalog.begin() as tx:
            tx.keys.retire(_PURPOSE, grace)
            tx.keys.add(new.id, _PURPOSE, new.pem)
            accepted = tx.keys.count_accepted(_PURPOSE)
        with self._lock:
            self._active_cache.clear()
            self._accepted_cache.clear()
        return new.id, accepted - 1

    @cachedmethod(attrgetter("_accepted_cache"), lock=attrgetter("_lock"))
    def _accepted(self, kid: str) -> Key:
        """Return an accepted key.

        Raises:
            LookupError: the key is unknown, or no longer accepted; this is not cached.
        """
        with self._catalog.read() as tx:
            pem = tx.keys.accepted(kid, _PURPOSE)
        if pem is None:
            raise LookupError(kid)
        return Key(SigningKey.from_pem(pem).public, frozenset({ALGORITHM}))

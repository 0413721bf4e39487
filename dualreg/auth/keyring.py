"""Keyring: the keys that this registry signs its own tokens with, the same for all its processes."""

import time
from datetime import timedelta
from threading import Lock
from typing import Any, NamedTuple

from dualreg.auth.trust import Key
from dualreg.catalog.database import Catalog
from dualreg.catalog.signing import signing_key
from dualreg.image.jws import SigningKey

ALGORITHM = "ES256"
#: What the keys are for, in the catalog.
_PURPOSE = "token"
#: Seconds after which a process looks whether its keys are still what the catalog says.
_FRESH = 60.0
#: Characters of the longest key id looked for.
_KID_LIMIT = 64


class _Held(NamedTuple):
    key: SigningKey
    read: float


class Keyring:
    """One key that signs, and those that were replaced and are accepted for a while."""

    def __init__(self, catalog: Catalog) -> None:
        """Read from *catalog*, and make the first key there if there is none."""
        self._catalog = catalog
        self._lock = Lock()
        self._active: _Held | None = None
        self._known: dict[str, _Held] = {}

    def active(self) -> SigningKey:
        """Return the key to sign with."""
        with self._lock:
            held = self._active
        if held is None or not _is_fresh(held):
            held = _Held(signing_key(self._catalog, _PURPOSE), time.monotonic())
            with self._lock:
                self._active = held
        return held.key

    def choose(self, header: dict[str, Any]) -> Key | None:
        """Return the key that a token's *header* names, while it is accepted."""
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid.isascii() or not 0 < len(kid) <= _KID_LIMIT:
            return None
        with self._lock:
            held = self._known.get(kid)
        if held is None or not _is_fresh(held):
            with self._catalog.read() as tx:
                pem = tx.keys.accepted(kid, _PURPOSE)
            held = _Held(SigningKey.from_pem(pem), time.monotonic()) if pem else None
            with self._lock:
                self._known.pop(kid, None)
                if held:
                    self._known[kid] = held
        return Key(held.key.public, frozenset({ALGORITHM})) if held else None

    def rotate(self, grace: timedelta) -> tuple[str, int]:
        """Sign with a new key from now on; every process does so within a minute.

        Args:
            grace: How long the tokens that older keys have signed are still accepted.

        Return the new key's id, and how many older keys are accepted for now.
        """
        made = SigningKey.generate()
        with self._catalog.begin() as tx:
            tx.keys.retire(_PURPOSE, grace)
            tx.keys.add(made.id, _PURPOSE, made.pem)
            accepted = tx.keys.count_accepted(_PURPOSE)
        with self._lock:
            self._active = None
            self._known.clear()
        return made.id, accepted - 1


def _is_fresh(held: _Held) -> bool:
    return time.monotonic() - held.read < _FRESH

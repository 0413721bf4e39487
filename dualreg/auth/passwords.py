"""Passwords, hashed by bcrypt, as in htpasswd files."""

import hashlib
import hmac
import secrets
from datetime import timedelta
from threading import Lock

import bcrypt
from cachetools import TTLCache

#: Bytes that bcrypt reads; a longer password is refused, never truncated.
BYTES_LIMIT = 72
#: The cost of new hashes: the binary logarithm of bcrypt's rounds.
ROUNDS = 12
#: A hash of that cost, to spend time on when there is none to compare with.
_DECOY = "$2b$12$fJJnG2ADa3/.15C3kb7HOeoFtl.T583lvBQdyBtJoDnafyiC6VE/."
#: How long, and how many, verified passwords are remembered, as bcrypt takes a fifth of a second.
_MEMORY = timedelta(minutes=5)
_MEMORY_SIZE = 1000


class Passwords:
    """Hashes and verifies passwords, in the same time whether the account exists or not."""

    def __init__(self, rounds: int = ROUNDS) -> None:
        """Make hashes of that cost; a lower one is for tests."""
        self._rounds = rounds
        self._key = secrets.token_bytes(32)
        self._verified: TTLCache[bytes, None] = TTLCache(_MEMORY_SIZE, _MEMORY.total_seconds())
        self._lock = Lock()

    def hash(self, password: str) -> str:
        """Return the bcrypt hash of a new password.

        Raises:
            ValueError: it is empty, contains NUL, or has more than BYTES_LIMIT bytes.
        """
        data = password.encode()
        if not data or b"\0" in data:
            raise ValueError("invalid password: empty, or contains NUL")
        if len(data) > BYTES_LIMIT:
            raise ValueError(f"invalid password: {len(data)} bytes, of at most {BYTES_LIMIT}")
        return bcrypt.hashpw(data, bcrypt.gensalt(self._rounds)).decode()

    def verify(self, password: str, hash_: str | None, decoy: str | None = None) -> bool:
        """Return whether *hash_* is that of the password.

        Args:
            hash_: None if there is no such account; the answer then takes as long.
            decoy: The hash of another account, to spend that time on.
        """
        data = password.encode()
        if hash_ is None or not 0 < len(data) <= BYTES_LIMIT or b"\0" in data:
            _check(b"decoy", decoy or _DECOY)
            return False
        correct = _check(data, hash_)
        if correct:
            with self._lock:
                self._verified[self._fingerprint(password, hash_)] = None
        return correct

    def verified_recently(self, password: str, hash_: str) -> bool:
        """Return whether ``verify`` accepted these within the last minutes; this takes no time."""
        with self._lock:
            return self._fingerprint(password, hash_) in self._verified

    def _fingerprint(self, password: str, hash_: str) -> bytes:
        """Return what stands for the two in memory: useless to an attacker who reads it there."""
        return hmac.new(self._key, f"{hash_}\0{password}".encode(), hashlib.sha256).digest()


def _check(password: bytes, hash_: str) -> bool:
    try:
        return bcrypt.checkpw(password, hash_.encode())
    except ValueError:  # not a bcrypt hash
        return False

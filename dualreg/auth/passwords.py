"""Passwords: bcrypt, as htpasswd files have it too."""

import hashlib
import hmac
import secrets
from datetime import timedelta
from threading import Lock

import bcrypt
from cachetools import TTLCache

#: bcrypt looks at no more bytes; longer ones are refused, never cut.
BYTES_LIMIT = 72
#: How often bcrypt mixes, as a power of two.
ROUNDS = 12
#: A hash of that many rounds, to spend time on where there is none to compare with.
_DECOY = "$2b$12$fJJnG2ADa3/.15C3kb7HOeoFtl.T583lvBQdyBtJoDnafyiC6VE/."
#: How long, and how many, agreeing passwords are remembered, as bcrypt takes a fifth of a second.
_MEMORY = timedelta(minutes=5)
_REMEMBERED = 1000


class Passwords:
    """Hashes passwords and compares them, in the same time whether there is an account or not."""

    def __init__(self, rounds: int = ROUNDS) -> None:
        """Make hashes of that many *rounds*; fewer are for tests."""
        self._rounds = rounds
        self._key = secrets.token_bytes(32)
        self._agreed: TTLCache[bytes, None] = TTLCache(_REMEMBERED, _MEMORY.total_seconds())
        self._lock = Lock()

    def hash(self, password: str) -> str:
        """Return what is kept of the password.

        Raises:
            ValueError: it is empty, has a NUL, or is longer than BYTES_LIMIT bytes.
        """
        data = password.encode()
        if not data or b"\0" in data:
            raise ValueError("a password cannot be empty, nor contain NUL")
        if len(data) > BYTES_LIMIT:
            raise ValueError(f"a password has at most {BYTES_LIMIT} bytes; this one has {len(data)}")
        return bcrypt.hashpw(data, bcrypt.gensalt(self._rounds)).decode()

    def agree(self, password: str, hash_: str | None, decoy: str | None = None) -> bool:
        """Tell whether *hash_* is that of the password.

        Args:
            hash_: None if there is no such account; that is found out just as late.
            decoy: The hash of another account, to spend that time on.
        """
        data = password.encode()
        if hash_ is None or not 0 < len(data) <= BYTES_LIMIT or b"\0" in data:
            _check(b"decoy", decoy or _DECOY)
            return False
        agreed = _check(data, hash_)
        if agreed:
            with self._lock:
                self._agreed[self._memory_of(password, hash_)] = None
        return agreed

    def remembers(self, password: str, hash_: str) -> bool:
        """Tell whether they agreed a moment ago; it costs nothing."""
        with self._lock:
            return self._memory_of(password, hash_) in self._agreed

    def _memory_of(self, password: str, hash_: str) -> bytes:
        return hmac.new(self._key, f"{hash_}\0{password}".encode(), hashlib.sha256).digest()


def _check(password: bytes, hash_: str) -> bool:
    try:
        return bcrypt.checkpw(password, hash_.encode())
    except ValueError:  # no bcrypt hash
        return False

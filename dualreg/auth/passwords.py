"""Passwords, hashed by bcrypt, as in htpasswd files."""

import hashlib
import hmac
import re
import secrets
from datetime import timedelta
from threading import Lock

import bcrypt
from cachetools import TTLCache

from dualreg.waiting import WorkSlots

#: Characters of a new password at least: a single one is a typing mistake. Existing ones are accepted.
SHORTEST = 2
#: Characters of a good password; commands warn of fewer.  Source: NIST SP 800-63B, "Passwords".
ADVISED = 8
#: Bytes that bcrypt reads; a longer password is refused, never truncated.
BYTES_LIMIT = 72
#: The cost of new hashes: the binary logarithm of bcrypt's rounds.
ROUNDS = 12
#: A bcrypt hash, as in htpasswd files. Weaker kinds are never accepted.
_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
#: How long, and how many, passwords are remembered, right ones and wrong ones, as bcrypt takes a fifth of a
#: second.
_MEMORY = timedelta(minutes=5)
_MEMORY_SIZE = 1000
#: Passwords that each process verifies at once, threads that wait for that, and for how many seconds.
_AT_ONCE, _WAITING, _PATIENCE = 4, 8, 10.0


class Passwords:
    """Hashes and verifies passwords, in the same time whether the account exists or not."""

    def __init__(self, rounds: int = ROUNDS) -> None:
        """Make hashes of that cost; a lower one is for tests."""
        self._rounds = rounds
        self._key = secrets.token_bytes(32)
        self._right: TTLCache[bytes, None] = TTLCache(_MEMORY_SIZE, _MEMORY.total_seconds())
        self._wrong: TTLCache[bytes, None] = TTLCache(_MEMORY_SIZE, _MEMORY.total_seconds())
        self._lock = Lock()
        self._slots = WorkSlots(_AT_ONCE, _WAITING, _PATIENCE)

    def hash(self, password: str) -> str:
        """Return the bcrypt hash of a new password.

        Raises:
            ValueError: it has less than SHORTEST characters or more than BYTES_LIMIT bytes, or contains NUL.
        """
        data = password.encode()
        if b"\0" in data:
            raise ValueError("invalid password: it contains NUL")
        if len(password) < SHORTEST:
            raise ValueError(f"invalid password: {len(password)} characters, of at least {SHORTEST}")
        if len(data) > BYTES_LIMIT:
            raise ValueError(f"invalid password: {len(data)} bytes, of at most {BYTES_LIMIT}")
        return bcrypt.hashpw(data, bcrypt.gensalt(self._rounds)).decode()

    def verify(self, password: str, hash_: str | None, *, account: str = "", cost: int | None = None) -> bool:
        """Return whether *hash_* is that of the password; what was asked within minutes takes no time.

        A wrong password takes as long as the dearest hash, whether the account has that, a cheaper one, or
        does not exist.

        Args:
            hash_: None if there is no such account.
            cost: The highest cost of the hashes of all accounts; None: that of new hashes.

        Raises:
            ServerBusy: too many passwords are being verified.
        """
        fingerprint = self._fingerprint(account, password, hash_)
        with self._lock:
            if fingerprint in self._right or fingerprint in self._wrong:
                return fingerprint in self._right
        with self._slots.slot():
            spent = cost_of(hash_) if hash_ and _is_possible(password.encode()) else None
            correct = spent is not None and bcrypt.checkpw(password.encode(), str(hash_).encode())
            if not correct:
                _spend_up_to(self._rounds if cost is None else cost, spent)
        with self._lock:
            (self._right if correct else self._wrong)[fingerprint] = None
        return correct

    def _fingerprint(self, account: str, password: str, hash_: str | None) -> bytes:
        """Return what stands for them in memory: useless to an attacker who reads it there."""
        text = repr((account, password, hash_))
        return hmac.new(self._key, text.encode(), hashlib.sha256).digest()


def cost_of(hash_: str) -> int | None:
    """Return the cost of a bcrypt hash; None if it is no such hash."""
    match = _HASH.fullmatch(hash_)
    return int(match[1]) if match else None


def _is_possible(password: bytes) -> bool:
    """Return whether there can be an account with this password."""
    return 0 < len(password) <= BYTES_LIMIT and b"\0" not in password


def _spend_up_to(cost: int, spent: int | None) -> None:
    """Take the time that a hash of *cost* takes; that of one of cost *spent* was taken already."""
    if spent is None:
        bcrypt.hashpw(b"decoy", bcrypt.gensalt(cost))
        return
    for step in range(spent, cost):  # each takes twice the time of the one before
        bcrypt.hashpw(b"decoy", bcrypt.gensalt(step))

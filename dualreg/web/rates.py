"""Rates: how many requests a client may send in a period, counted in memory that the workers share.

Each client has a time at which all that it sent would be due if it had sent at the limit (the generic cell
rate algorithm). A client may be ahead of that by one period, so it may send a whole period's requests at once
and is then held to the rate. Two processes that count the same client at the same moment may count once.

Source: ITU-T I.371, annex A, "virtual scheduling algorithm".
"""

import math
import time
from collections.abc import Callable
from mmap import mmap
from threading import Lock

from dualreg.errors import TooManyRequests
from dualreg.networks import network_of

#: Clients that are known at once. Of more, those that sent least lately are forgotten.
_SLOTS = 1 << 16
#: Neighbouring slots in which a client may be found.
_WAYS = 8
_SLOT_SIZE = 16
#: Times are whole nanoseconds: sums of them are exact.
_SECOND = 1_000_000_000


def client_of(account: str, address: str) -> str:
    """Return the text that names whom a request counts for: the account, or without one the network."""
    return f"account {account}" if account else f"network {network_of(address)}"


class Rates:
    """Counts the requests of clients. Processes that are forked after it was made share the numbers."""

    def __init__(
        self,
        count: int = 0,
        period: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        slots: int = _SLOTS,
    ) -> None:
        """Let each client send *count* requests in *period* seconds; 0: as many as it wants.

        Args:
            clock: In seconds, the same in all processes.
            slots: How many clients are known at once.
        """
        self._period = round(period * _SECOND)
        self._interval = self._period // count if count else 0
        self._clock, self._slots = clock, slots
        memory = memoryview(mmap(-1, (slots if count else _WAYS) * _SLOT_SIZE))
        # Of each slot, the first half is the key of a client, and the second when its requests are due.
        self._halves = memory.cast("Q")
        self._lock = Lock()

    @property
    def are_limited(self) -> bool:
        """Whether requests are counted at all."""
        return bool(self._interval)

    def take(self, client: str, *, periods: int = 1) -> None:
        """Count a request.

        Args:
            periods: By how many the client may be ahead of its rate.

        Raises:
            TooManyRequests: there were too many; this one does not count.
        """
        if not self._interval:
            return
        with self._lock:
            slot, key, due = self._check(client, periods)
            self._halves[slot], self._halves[slot + 1] = key, due

    def check(self, client: str, *, periods: int = 1) -> None:
        """Refuse a request that ``take`` would refuse, without counting it."""
        if self._interval:
            with self._lock:
                self._check(client, periods)

    def _check(self, client: str, periods: int) -> tuple[int, int, int]:
        """Return the slot and the key of a client, and when its requests are due if it sends one more.

        Raises:
            TooManyRequests.
        """
        key = hash(client) & 0xFFFF_FFFF_FFFF_FFFF  # salted by Python, once for all forks
        now, slot = round(self._clock() * _SECOND), self._slot(key)
        due = max(self._halves[slot + 1] if self._halves[slot] == key else now, now) + self._interval
        if (wait := due - now - self._period * periods) > 0:
            raise TooManyRequests(retry_after=math.ceil(wait / _SECOND))
        return slot, key, due

    def _slot(self, key: int) -> int:
        """Return where the client is, or else that of its places whose client sent least lately."""
        first = key % (self._slots // _WAYS) * _WAYS * 2
        slots = range(first, first + _WAYS * 2, 2)
        for slot in slots:
            if self._halves[slot] == key:
                return slot
        return min(slots, key=lambda slot: self._halves[slot + 1])

"""Limits: the connections of a process to an upstream, and the bytes that they bring in a second."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from dualreg.errors import UpstreamBusy

#: Bytes that are read at once, at most.
_PIECE = 256 << 10
#: How much of a second a piece brings, so that what has a rate flows, and pieces that are worth reading.
_SHARE, _LEAST_PIECE = 8, 1 << 10
#: When to try again if no connection becomes free, in seconds.
_RETRY_AFTER = 10


class Limits:
    """The limits of one upstream in this process."""

    def __init__(
        self,
        connections: int,
        rate: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Allow so many *connections*, and *rate* bytes in a second; 0: any number."""
        self._free = BoundedSemaphore(connections)
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._paid_until = clock()
        self._lock = Lock()

    @property
    def piece(self) -> int:
        """How many bytes to read at once."""
        return min(_PIECE, max(self._rate // _SHARE, _LEAST_PIECE)) if self._rate else _PIECE

    @contextmanager
    def connection(self, patience: float) -> Iterator[None]:
        """Hold a connection for the block.

        Raises:
            UpstreamBusy: none became free within *patience* seconds.
        """
        if not self._free.acquire(timeout=patience):
            raise UpstreamBusy(retry_after=_RETRY_AFTER)
        try:
            yield
        finally:
            self._free.release()

    def spend(self, size: int) -> None:
        """Wait until *size* bytes that have arrived are within the rate."""
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now) + size / self._rate
            wait = self._paid_until - now
        self._sleep(wait)

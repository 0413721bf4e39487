"""Shares: how many connections each worker has, so that all have about as many.

The kernel wakes all workers for a new connection, and the first one takes it. By that alone, one worker often
has most of them, and one processor most of the work.
"""

import math
import time
from mmap import mmap

#: Seconds for which a connection is left to a worker that has fewer. Its loop may first have to wait for one
#: of its threads, which Python interrupts after as long as this.
PATIENCE = 0.005
#: Workers that are told apart. Of more, two have one share, which only makes them less even.
_WORKERS = 64
#: The share of no worker, or of one that takes no more: nobody has more than it.
_NONE = 2**32 - 1


class Shares:
    """How many connections each worker has that accepts more, in memory that processes share after a fork.

    Workers are known by the number that gunicorn calls their age.
    """

    def __init__(self) -> None:
        """Begin without a worker."""
        self._counts = memoryview(mmap(-1, 4 * _WORKERS)).cast("I")
        for index in range(_WORKERS):
            self._counts[index] = _NONE
        self._left_since, self._is_left = math.inf, False

    def set(self, worker: int, connections: int) -> None:
        """Say how many connections a worker has."""
        self._counts[worker % _WORKERS] = connections

    def remove(self, worker: int) -> None:
        """Say that a worker has ended, or accepts no more connections."""
        self._counts[worker % _WORKERS] = _NONE

    def leaves(self, connections: int) -> bool:
        """Return whether a worker that has *connections* leaves the next one to another, which has fewer.

        The worker asks again while the connection waits. It leaves it for PATIENCE: the other may be stuck.
        """
        now = time.monotonic()
        self._left_since = min(self._left_since, now)
        self._is_left = connections > min(self._counts) and now - self._left_since < PATIENCE
        if not self._is_left:
            self._left_since = math.inf
        return self._is_left

    def end_round(self) -> None:
        """Say that the worker has asked about all that waits: what is not left now, another has taken.

        The next connection is then left for as long as this one was.
        """
        if not self._is_left:
            self._left_since = math.inf
        self._is_left = False

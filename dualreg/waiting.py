"""Waiting: how many threads do, or wait for, work that takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Condition
from time import monotonic

from dualreg.errors import ServerBusy

#: When to try again if nothing ends, in seconds.
_RETRY_AFTER = 5
#: For how many seconds a slot may be held before others hurry.
_LONG = 1.0


class WorkSlots:
    """Slots of such work; the threads that neither work nor wait are for other requests."""

    def __init__(self, slots: int, waiting: int, patience: float) -> None:
        """Start with all *slots* free; up to *waiting* threads wait for one, for *patience* seconds."""
        self._patience = patience
        self._free = BoundedSemaphore(slots)
        self._places = BoundedSemaphore(slots + waiting)

    @contextmanager
    def slot(self, *, patience: float | None = None) -> Iterator[None]:
        """Hold a slot for the block.

        Args:
            patience: How long to wait for one, instead of as long as others.

        Raises:
            ServerBusy: none became free, or too many threads wait for one.
        """
        patience = self._patience if patience is None else patience
        with _held(self._places, 0.0), _held(self._free, patience):
            yield


class Turns:
    """Slots for which any number of threads wait, as long as one becomes free now and then.

    Many that come at once get their turns, one after the other. Once nothing has moved for some seconds, no
    thread waits any longer: they are for other requests. The last threads never wait for long, so that work
    which is slow, but comes to an end again and again, does not take all of them.

    Attributes:
        waiting: How many threads wait.
    """

    def __init__(
        self,
        slots: int,
        patience: float,
        busy: type[ServerBusy] = ServerBusy,
        clock: Callable[[], float] = monotonic,
        patient: int | None = None,
    ) -> None:
        """Start with all *slots* free; wait while one has become free within *patience* seconds.

        Args:
            busy: What is raised if none becomes free.
            clock: In seconds.
            patient: How many threads wait so; more of them wait only until a slot has been held for a second.
                None: any number.
        """
        self._free, self._slots, self._patience = slots, slots, patience
        self._busy, self._clock, self._moved_at = busy, clock, 0.0
        self._patient, self.waiting = patient, 0
        self._held = dict[object, float]()
        self._moved = Condition()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for the block.

        Raises:
            ServerBusy: none became free.
        """
        with self._moved:
            if self._free == self._slots:
                self._moved_at = self._clock()
            self._wait()
            self._free -= 1
            self._held[mark := object()] = self._clock()
        try:
            yield
        finally:
            with self._moved:
                del self._held[mark]
                self._free, self._moved_at = self._free + 1, self._clock()
                self._moved.notify()

    def _wait(self) -> None:
        """Wait for a free slot, with the lock held."""
        hurried = self._patient is not None and self.waiting >= self._patient
        self.waiting += 1
        try:
            while not self._free:
                until = self._moved_at + self._patience
                if hurried:
                    until = min(until, min(self._held.values()) + _LONG)
                if (left := until - self._clock()) <= 0:
                    raise self._busy(retry_after=_RETRY_AFTER)
                self._moved.wait(left)
        finally:
            self.waiting -= 1


@contextmanager
def _held(semaphore: BoundedSemaphore, patience: float) -> Iterator[None]:
    if not semaphore.acquire(timeout=patience):
        raise ServerBusy(retry_after=_RETRY_AFTER)
    try:
        yield
    finally:
        semaphore.release()

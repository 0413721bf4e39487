"""Waiting: how many threads do, or wait for, work that takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import BoundedSemaphore, Condition, RLock
from time import monotonic

from dualreg.errors import ServerBusy

#: When to try again if nothing ends, in seconds.
_RETRY_AFTER = 5
#: For how many seconds a slot may be held before others hurry.
_LONG = 1.0
#: Seconds between two looks whether a thread of the budget is free: other work gives them back, too.
_GLANCE = 0.05

_in_background: ContextVar[bool] = ContextVar("dualreg_in_background", default=False)


def work_in_background() -> None:
    """Have this thread be none of those that requests have: what it waits for takes nothing of a budget."""
    _in_background.set(True)


class Budget:
    """The threads of a process that do work which takes long; an eighth of all, one at least, does no such.

    Some may wait for what is not here yet: three quarters of all at most, and one less than do such work.
    So what waits never has all threads, nor all that send what is here. If there is only one thread, it does
    everything.
    """

    def __init__(self, threads: int) -> None:
        """Start with all free."""
        self._long = max(threads - max(threads // 8, 1), 1)
        self.waiting = max(min(threads * 3 // 4, self._long - 1), 1)
        self._taken = self._waits = 0
        self._lock = RLock()  # as that of web.slots

    def take(self, *, waits: bool) -> bool:
        """Take a thread for such work, unless none is left for it; return whether there was one.

        Args:
            waits: Whether it waits for what is not here yet.
        """
        with self._lock:
            if self._taken >= self._long or (waits and self._waits >= self.waiting):
                return False
            self._taken += 1
            self._waits += waits
            return True

    def give_back(self, *, waits: bool) -> None:
        """Give back what was taken."""
        with self._lock:
            self._taken -= 1
            self._waits -= waits


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
    thread waits any longer: they are for other requests.

    Attributes:
        waiting: How many threads wait.
    """

    def __init__(
        self,
        slots: int,
        patience: float,
        busy: type[ServerBusy] = ServerBusy,
        clock: Callable[[], float] = monotonic,
        budget: Budget | None = None,
    ) -> None:
        """Start with all *slots* free; wait while one has become free within *patience* seconds.

        Args:
            busy: What is raised if none becomes free.
            clock: In seconds.
            budget: Of whose threads those with a slot are, which wait; not the others. These wait only until
                a slot has been held for a second, so that work which is slow, but comes to an end again and
                again, does not take all threads. Threads in the background need no slot.
        """
        self._free, self._slots, self._patience = slots, slots, patience
        self._busy, self._clock, self._moved_at = busy, clock, 0.0
        self._budget, self.waiting = budget, 0
        self._held = dict[object, float]()
        self._moved = Condition()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for the block.

        Raises:
            ServerBusy: none became free.
        """
        if self._budget and _in_background.get():
            yield
            return
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
                if self._budget:
                    self._budget.give_back(waits=True)
                self._moved.notify()

    def _wait(self) -> None:
        """Wait for a free slot, with the lock held."""
        self.waiting += 1
        came_at, budget = self._clock(), self._budget
        try:
            while not (self._free and (budget is None or budget.take(waits=True))):
                until = self._moved_at + self._patience
                if budget:
                    until = min(until, min(self._held.values(), default=came_at) + _LONG)
                if (left := until - self._clock()) <= 0:
                    raise self._busy(retry_after=_RETRY_AFTER)
                self._moved.wait(min(left, _GLANCE) if budget else left)
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

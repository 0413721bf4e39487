"""Inflating: reading layers and uploads through on behalf of clients, a few at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from dualreg.errors import ServerBusy

#: Layers that each process reads through at once.
_SLOTS = 2
#: Threads of each process that wait for a slot: the others are for requests that need none.
_WAITING = 4
#: Seconds that what is done once for an image waits for a slot.
PATIENCE = 60.0
#: When to try again if none of them ends, in seconds.
_RETRY_AFTER = 5


class InflatingSlots:
    """Slots of work that takes a processor for as long as a layer is large."""

    def __init__(self, slots: int = _SLOTS) -> None:
        """Start with all *slots* free."""
        self._free = BoundedSemaphore(slots)
        self._places = BoundedSemaphore(slots + _WAITING)

    @contextmanager
    def slot(self, *, patience: float = PATIENCE) -> Iterator[None]:
        """Hold a slot for the block, after waiting *patience* seconds for one at most.

        Raises:
            ServerBusy: none became free, or too many threads wait for one.
        """
        with self._hold(self._places, 0.0), self._hold(self._free, patience):
            yield

    @contextmanager
    def _hold(self, semaphore: BoundedSemaphore, patience: float) -> Iterator[None]:
        if not semaphore.acquire(timeout=patience):
            raise ServerBusy(retry_after=_RETRY_AFTER)
        try:
            yield
        finally:
            semaphore.release()

"""Inflating: reading layers through on behalf of readers, a few at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from dualreg.errors import ServerBusy

#: Layers that each process reads through at once.
_SLOTS = 2
#: Seconds that what is done once for an image waits for a slot.
PATIENCE = 60.0
#: When to try again if none of them ends, in seconds.
_RETRY_AFTER = 5


class InflatingSlots:
    """Slots of work that takes a processor for as long as a layer is large."""

    def __init__(self) -> None:
        """Start with all slots free."""
        self._free = BoundedSemaphore(_SLOTS)

    @contextmanager
    def slot(self, *, patience: float = PATIENCE) -> Iterator[None]:
        """Hold a slot for the block, after waiting *patience* seconds for one at most.

        Raises:
            ServerBusy: none became free.
        """
        if not self._free.acquire(timeout=patience):
            raise ServerBusy(retry_after=_RETRY_AFTER)
        try:
            yield
        finally:
            self._free.release()

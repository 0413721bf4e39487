"""Waiting: how many threads do, or wait for, work that takes a processor for long."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from dualreg.errors import ServerBusy

#: When to try again if nothing ends, in seconds.
_RETRY_AFTER = 5


class WorkSlots:
    """Slots of such work; the threads that neither work nor wait are for other requests."""

    def __init__(
        self, slots: int, waiting: int, patience: float, busy: type[ServerBusy] = ServerBusy
    ) -> None:
        """Start with all *slots* free; up to *waiting* threads wait for one, for *patience* seconds.

        Args:
            busy: The error of those that get none.
        """
        self._patience, self._busy = patience, busy
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
        with self._held(self._places, 0.0), self._held(self._free, patience):
            yield

    @contextmanager
    def _held(self, semaphore: BoundedSemaphore, patience: float) -> Iterator[None]:
        if not semaphore.acquire(timeout=patience):
            raise self._busy(retry_after=_RETRY_AFTER)
        try:
            yield
        finally:
            semaphore.release()

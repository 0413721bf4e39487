"""Circuit: what is still asked of a server that does not answer.

A server that hangs would have every thread wait for it. So only some may wait at once, and once requests
have failed for some time while none was answered, the circuit is *open*: further ones are refused at once.
One at a time is let through then, to find out whether the server answers again. Any answer closes it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, local
from time import monotonic

from dualreg.storage.base import StoreUnavailable

_log = logging.getLogger(__name__)

#: Seconds in which requests have failed, and none was answered, after which further ones are refused.
SILENCE = 3.0
#: Seconds from one look whether the server answers again to the next.
PAUSE = 1.0
#: Seconds without a place having become free, after which no more threads wait for one.
STUCK = 2.0


class Circuit:
    """What this process knows of a server, and the threads that wait for it; for any number of threads."""

    def __init__(self, places: int, clock: Callable[[], float] = monotonic) -> None:
        """Let up to *places* threads wait at once.

        Args:
            clock: In seconds.
        """
        self._places, self._inside, self._moved = places, 0, 0.0
        self._clock = clock
        self._changed = Condition()
        self._mine = local()
        self._answered_at = clock()
        self._failing_since: float | None = None
        self._opened_at: float | None = None
        self._next_look = 0.0
        self._is_looking = False

    @property
    def is_open(self) -> bool:
        """Whether requests are refused."""
        return self._opened_at is not None

    def exempt(self) -> None:
        """Let this thread wait without a place, since another one waits for it, or none."""
        self._mine.has_place = True

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the block, unless this thread holds one.

        Raises:
            StoreUnavailable: all are taken, and none becomes free.
        """
        if getattr(self._mine, "has_place", False):
            yield
            return
        self._enter()
        self._mine.has_place = True
        try:
            yield
        finally:
            self._mine.has_place = False
            self._leave()

    def admit(self, look: Callable[[], object]) -> None:
        """Return if a request may be sent.

        Args:
            look: Sends one, and reports that, to find out whether the server answers again.

        Raises:
            StoreUnavailable: the circuit is open. So does whatever *look* raises.
        """
        if self._may_look():
            self._mine.is_looking = True
            try:
                look()
            finally:
                self._mine.is_looking = False
                self._end_look()
        self.require()

    def require(self) -> None:
        """Raise StoreUnavailable if the circuit is open, unless this thread looks."""
        opened_at = self._opened_at
        if opened_at is not None and not getattr(self._mine, "is_looking", False):
            seconds = self._clock() - opened_at
            raise StoreUnavailable(f"the object store has not answered since {seconds:.0f} seconds")

    def answered(self) -> None:
        """Note that a request was answered."""
        with self._changed:
            self._answered_at, self._failing_since = self._clock(), None
            opened_at, self._opened_at = self._opened_at, None
        if opened_at is not None:
            _log.warning("the object store answers again, after %.0f seconds", self._answered_at - opened_at)

    def failed(self, began: float, why: object = "") -> None:
        """Note that a request, which was sent at *began*, was not answered.

        Args:
            began: As the clock says.
            why: For the log.
        """
        with self._changed:
            if self._failing_since is None:
                self._failing_since = max(began, self._answered_at)
            now = self._clock()
            if self.is_open or now - self._failing_since < SILENCE:
                return
            self._opened_at, self._next_look = now, now + PAUSE
        _log.warning("the object store does not answer; requests are refused until it does: %s", why)

    def _may_look(self) -> bool:
        """Return whether this thread is to look now; no other one does until it ends that."""
        with self._changed:
            if not self.is_open or self._is_looking or self._clock() < self._next_look:
                return False
            self._is_looking = True
            return True

    def _end_look(self) -> None:
        with self._changed:
            self._is_looking, self._next_look = False, self._clock() + PAUSE

    def _enter(self) -> None:
        with self._changed:
            if self._inside == 0:
                self._moved = self._clock()
            while self._inside >= self._places:
                rest = self._moved + STUCK - self._clock()
                if rest <= 0:
                    raise StoreUnavailable("too many requests are waiting for the object store")
                self._changed.wait(rest)
            self._inside += 1

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._moved = self._clock()
            self._changed.notify()

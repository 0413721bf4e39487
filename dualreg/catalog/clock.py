"""Clock: the time of the database, by which all instances agree, whatever the clocks of their machines say.

It is read now and then over a connection that is in use anyway, and counted on by a clock of this machine
that cannot be set.
"""

import time
from datetime import UTC, datetime, timedelta
from threading import Lock

#: A time before everything here.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Seconds after which it is read again.
FRESH = 60.0
#: Seconds that an answer may take: half of that is how far off its time may be.
_QUICK = 1.0
#: Seconds by which the clock of this machine is set, so that the other one may have been stopped.
_SET = 1.0


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def as_microseconds(instant: datetime) -> int:
    """Return how many microseconds there are from the epoch to an aware *instant*."""
    return (instant - EPOCH) // _MICROSECOND


def from_microseconds(number: int) -> datetime:
    """Return the instant, aware, in UTC, that is so many microseconds after the epoch."""
    return EPOCH + number * _MICROSECOND


def ticks() -> float:
    """Return seconds since an instant that does not change while the machine is up, or sleeps on Linux."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except AttributeError:
        return time.monotonic()


class DatabaseClock:
    """Returns the time of a database; that of this machine until it was read."""

    def __init__(self) -> None:
        """Know nothing."""
        self._read: tuple[datetime, float] | None = None
        self._due = self._offset = 0.0
        self._lock = Lock()

    def __call__(self) -> datetime:
        """Return the current time, aware, in UTC."""
        if self._read is None:
            return utc_now()
        at, then = self._read
        return at + timedelta(seconds=ticks() - then)

    def is_due(self) -> bool:
        """Return whether the caller is to read it now; others are not asked to at the same time.

        That is so once a minute, and when the clock of this machine was set: of a virtual machine that was
        paused, that is the first sign, since ``ticks`` stopped with it.
        """
        with self._lock:
            now = ticks()
            offset = time.time() - now
            due = now >= self._due or abs(offset - self._offset) > _SET
            if due:
                self._due, self._offset = now + FRESH, offset
            return due

    def set(self, at: datetime, began: float) -> None:
        """Take *at* for the time of the database, which was asked for when ``ticks`` was *began*.

        If the answer took long, it says little: for example, because this process was stopped meanwhile. Then
        it counts only as long as there is no other one, and the next caller reads the time again.
        """
        now = ticks()
        is_quick = now - began <= _QUICK
        if self._read is None or is_quick:
            self._read = at.astimezone(UTC), (began + now) / 2
        if is_quick:
            self._due, self._offset = now + FRESH, time.time() - now

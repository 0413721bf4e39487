"""Outages: what is wrong with this server's disk, database or limits, as clients and the log are given it.

An outage is answered with 503 and Retry-After (RFC 9110, section 15.6.4). 507 says more, but is WebDAV's. It
is a line in the log, without a traceback.
"""

import errno
import time
from collections.abc import Callable, Mapping
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

from dualreg.errors import AuditUnavailable
from dualreg.registry.health import Health
from dualreg.storage.base import StoreUnavailable

#: Seconds after which a client should return: for what ends with other requests, and what an operator ends.
_SOON, _LATER = 5, 60
#: Lines of one kind that are logged within so many seconds; further ones are counted.
_BURST, _WINDOW = 10, 10.0


class Outage(NamedTuple):
    """Why a request fails through no fault of its client or of the program.

    Attributes:
        message: For clients: what is wrong, without a word about files or hosts.
        reason: For the log, in one line.
        retry_after: In seconds.
    """

    message: str
    reason: str
    retry_after: int = _SOON


_FULL = "the disk of the registry is full", _LATER
_READ_ONLY = "the disk of the registry is read-only", _LATER
_BROKEN = "the disk of the registry fails", _LATER
_EXHAUSTED = "the registry has too many files open", _SOON
_MEMORY = "the registry is short of memory", _SOON
#: What an error of the operating system means, and when to return.
_BY_ERRNO: Mapping[int, tuple[str, int]] = MappingProxyType(
    {
        errno.ENOSPC: _FULL,
        errno.EDQUOT: _FULL,
        errno.EROFS: _READ_ONLY,
        errno.EIO: _BROKEN,
        errno.ESTALE: _BROKEN,
        errno.EMFILE: _EXHAUSTED,
        errno.ENFILE: _EXHAUSTED,
        errno.ENOMEM: _MEMORY,
    }
)


def outage_of(error: BaseException | None) -> Outage | None:
    """Return the outage that *error*, or what it was raised from, means; None if it means another failure."""
    while error is not None:
        if isinstance(error, AuditUnavailable):
            return Outage("the audit log of the registry cannot be written", str(error))
        if isinstance(error, StoreUnavailable):
            return Outage("the object store of the registry does not answer", str(error))
        if isinstance(error, OSError) and (known := _BY_ERRNO.get(error.errno or 0)):
            message, retry_after = known
            return Outage(message, str(error), retry_after)
        if isinstance(error, Exception) and (down := Health.outage(error)):
            return Outage("the database of the registry does not answer", down)
        error = error.__cause__
    return None


class LimitedLog:
    """A log in which no kind of line drowns the others, however many requests fail."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Hand lines to *write*.

        Args:
            clock: In seconds.
        """
        self._write, self._clock = write, clock
        self._lock = Lock()
        self._windows: dict[str, tuple[float, int]] = {}

    def line(self, kind: str, text: str) -> None:
        """Write *text*, unless ten lines of its kind were written within ten seconds.

        The next one that is written says how many were not.

        Args:
            kind: One of few.
        """
        now = self._clock()
        with self._lock:
            begun, count = self._windows.get(kind, (now, 0))
            skipped = 0
            if now - begun >= _WINDOW:
                skipped, begun, count = max(count - _BURST, 0), now, 0
            self._windows[kind] = begun, count + 1
        if count < _BURST:
            self._write(f"{text} (and {skipped} more like it)" if skipped else text)

"""File locks that a process may only look at: whether another one holds a lock.

Who looks holds a lock with others for an instant. So who wants it alone tries again for a moment.

Source: flock(2).
"""

import fcntl
import os
from pathlib import Path
from time import sleep

#: How often a lock is tried again, and seconds between two times.
_ATTEMPTS, _PAUSE = 4, 0.02


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; return whether no other process has."""
    for left in range(_ATTEMPTS, -1, -1):
        if _try(descriptor, fcntl.LOCK_EX):
            return True
        if left:
            sleep(_PAUSE)
    return False


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; none does if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

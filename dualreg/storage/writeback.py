"""Writeback: bytes go to the disk while more of them arrive, so that the sync at the end has little left.

If the disk is slower than the client, the client waits for it meanwhile, and not for minutes at the end.
"""

import ctypes
import os
from functools import cache
from typing import Any

#: Bytes after which the disk is asked to begin with them, and how many of them it may not have written yet.
_STEP, _LEFT = 8 << 20, 64 << 20
#: Linux's flags to wait for what has begun, and to begin without waiting.  Source: sync_file_range(2).
_WAIT_BEFORE, _WRITE = 1, 2


def begin(descriptor: int) -> None:
    """Ask the disk to begin with a file that is synced soon: it takes several such files together."""
    if function := _sync_file_range():
        function(descriptor, 0, 0, _WRITE)  # what fails is left to the sync


class WriteBehind:
    """Has a growing file written to the disk. Nothing is durable before the file is synced."""

    def __init__(self, descriptor: int, length: int) -> None:
        """Begin with a file that has *length* bytes."""
        self._descriptor = descriptor
        self._begun = self._done = length

    def reach(self, length: int) -> None:
        """Note that the file has *length* bytes.

        Raises:
            OSError: bytes could not be written; the sync might not say so any more.
        """
        if length - self._begun < _STEP or not self._call(self._begun, length, _WRITE):
            return  # what fails at once, for example because it is not supported, is left to the sync
        self._begun = length
        if (end := length - _LEFT) > self._done:
            if not self._call(self._done, end, _WAIT_BEFORE):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error))
            self._done = end

    def _call(self, start: int, end: int, flags: int) -> bool:
        """Return whether Linux could do it with these bytes; elsewhere, it cannot be done."""
        function = _sync_file_range()
        return function is not None and function(self._descriptor, start, end - start, flags) == 0


@cache
def _sync_file_range() -> Any:  # noqa: ANN401 -- a function of the C library
    """Return the function, which Python does not have; None if there is none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if function:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function

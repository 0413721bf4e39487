"""Parallel: the syncs of several files, which the disk gets at once instead of one after the other.

Each fsync waits until the disk has emptied its cache. Those that Linux makes at the same time share that
wait, and a commit of the file system's journal. Its interface for asynchronous I/O makes them in threads of
the kernel, by two system calls. Where there is none, or a sandbox forbids it, they are made one after the
other.

Source: io_setup(2), io_submit(2), io_getevents(2); ``linux/aio_abi.h``.
"""

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Self

#: Numbers of the system calls by machine: the C library has no functions for them.
_NUMBERS = {
    "x86_64": {"setup": 206, "submit": 209, "getevents": 208},
    "aarch64": {"setup": 0, "submit": 2, "getevents": 4},
}
#: Files of one call.
_LIMIT = 32
#: IOCB_CMD_FSYNC.
_FSYNC = 2


class _Request(ctypes.Structure):
    """A ``struct iocb``, as machines have it that store the lowest byte first."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("signalled", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """A ``struct io_event``."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class _Queue:
    """Syncs that the kernel makes at the same time; one thread at a time uses it.

    Attributes:
        left: How many of them have not ended.
    """

    def __init__(self, context: int) -> None:
        """Use the *context* that io_setup has made."""
        self._context, self.left = context, 0
        self._requests = (_Request * _LIMIT)(*(_Request(opcode=_FSYNC) for _ in range(_LIMIT)))
        size = ctypes.sizeof(_Request)
        self._pointers = (ctypes.c_void_p * _LIMIT)(
            *(ctypes.addressof(self._requests) + number * size for number in range(_LIMIT))
        )
        self._events = (_Event * _LIMIT)()

    @classmethod
    def new(cls) -> Self | None:
        """Return a new one; None if there is none to be had."""
        context = ctypes.c_ulong()
        if _call("setup", _LIMIT, ctypes.addressof(context)) != 0:
            return None
        return cls(context.value)

    def sync(self, descriptors: Sequence[int]) -> int:
        """Sync the first of *descriptors*, and wait for that; return how many they were.

        Raises:
            OSError: one of them could not be written.
        """
        for request, descriptor in zip(self._requests, descriptors, strict=False):
            request.descriptor = descriptor
        self.left = min(len(descriptors), _LIMIT)
        begun = _call("submit", self._context, self.left, ctypes.addressof(self._pointers))
        self.left = begun = max(begun, 0)
        failure = 0
        while self.left:
            for event in self._wait():
                failure = min(failure, event.result)
        if failure:
            raise OSError(-failure, os.strerror(-failure))
        return begun

    def _wait(self) -> Sequence[_Event]:
        """Return how syncs ended that were left."""
        found = _call("getevents", self._context, self.left, self.left, ctypes.addressof(self._events), 0)
        if found < 0 and (error := ctypes.get_errno()) != errno.EINTR:
            raise OSError(error, os.strerror(error))
        self.left -= max(found, 0)
        return self._events[: max(found, 0)]


#: Those that no thread uses now, by process: the kernel does not know them after a fork.
_idle: dict[int, list[_Queue]] = {}


def sync(*descriptors: int) -> None:
    """Make files or folders durable that are open.

    Raises:
        OSError: one of them could not be written; the others may be durable.
    """
    done, idle = 0, _idle.setdefault(os.getpid(), [])
    if len(descriptors) > 1 and (queue := _take(idle)):
        try:
            done = queue.sync(descriptors)
        finally:
            if not queue.left:
                idle.append(queue)
    for descriptor in descriptors[done:]:
        os.fsync(descriptor)


def _take(idle: list[_Queue]) -> _Queue | None:
    """Return a queue for this thread; another one may take the last of *idle* at any moment."""
    try:
        return idle.pop()
    except IndexError:
        return _Queue.new()


def _call(name: str, *arguments: int) -> int:
    """Make a system call, and return its result; less than 0 if it fails, or there is none."""
    if (numbers := _numbers()) is None:
        return -1
    return int(_syscall()(numbers[name], *arguments, *(0,) * (5 - len(arguments))))


@cache
def _numbers() -> Mapping[str, int] | None:
    """Return the numbers of the system calls; None if they are not known for this machine."""
    is_known = sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8  # noqa: PLR2004 -- 64 bits
    return _NUMBERS.get(platform.machine()) if is_known else None


@cache
def _syscall() -> Any:  # noqa: ANN401 -- a function of the C library
    """Return the function that makes system calls."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.argtypes, function.restype = (ctypes.c_long,) * 6, ctypes.c_long
    return function

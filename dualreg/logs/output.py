"""Output: where lines go. Writing one never waits and never fails, whatever is at the other end.

A reader that stalls must not stall the server, and one that is gone must not end it. What cannot be written
at once waits in memory, and a thread writes it as soon as there is room. There is a limit to that; the lines
beyond it are counted, and the next line that is written says how many are missing.
"""

import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import RLock, Thread
from typing import TextIO

#: Bytes of lines that wait in memory.
_ROOM = 4 << 20
#: Bytes that a pipe takes as a whole, without waiting if it is writable.  Source: POSIX, ``PIPE_BUF``.
WHOLE = 4096
#: Seconds between two looks for room: the first ones, and those while there is none.
_LOOK, _LONG_LOOK = 0.01, 0.25

#: Writes the beginning of some bytes without waiting; returns how much that was.
Send = Callable[[bytes], int]


class Output:
    """A stream to which any number of threads and processes write whole lines.

    Attributes:
        close: Gives back what it has opened. Nothing is written from then on.
    """

    def __init__(self, stream: TextIO, missing: Callable[[int], str], room: int = _ROOM) -> None:
        """Write to *stream*.

        Args:
            missing: Returns the line that says that so many lines are missing.
            room: Bytes that wait in memory, at most.
        """
        self._missing, self._room = missing, room
        self._send, self.close = _sender(stream)
        self._begin()

    def write(self, line: str) -> None:
        """Write *line*, or several, now or as soon as there is room.

        Other processes write none into one of up to ``WHOLE`` bytes, nor between lines that have no more.
        """
        data = f"{line}\n".encode(errors="backslashreplace")
        if os.getpid() != self._process:
            self._begin()  # what waits is the parent's, and so are the thread and the lock
        with self._lock:
            for piece in _pieces(data):
                rest = piece if self._waiting else self._try(piece)
                if rest:
                    self._keep(rest)

    def flush(self, seconds: float) -> bool:
        """Wait up to *seconds* for what waits to be written; return whether all of it was."""
        if os.getpid() != self._process:
            return True  # what waits is the parent's
        end = time.monotonic() + seconds
        while self._waiting and time.monotonic() < end:
            time.sleep(_LOOK)
        return not self._waiting

    def _begin(self) -> None:
        """Begin in this process."""
        self._process = os.getpid()
        self._lock = RLock()  # what is collected as garbage, and signals, may log meanwhile
        self._waiting = deque[bytes]()
        self._size = self._lost = 0
        self._thread: Thread | None = None

    def _try(self, data: bytes) -> bytes:
        """Write *data* without waiting; return what has to wait."""
        if self._lost:
            data = f"{self._missing(self._lost)}\n".encode() + data
        try:
            rest = data[self._send(data) :]
        except BlockingIOError:
            return data if not self._lost else data.partition(b"\n")[2]
        except (OSError, ValueError):  # nobody reads, the disk is full, or the stream was closed
            self._lost += 1
            return b""
        self._lost = 0
        return rest

    def _keep(self, data: bytes) -> None:
        """Let *data* wait, if there is room for it."""
        if self._size + len(data) > self._room:
            self._lost += 1
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._thread is None:
            thread = Thread(target=self._drain, name="log", daemon=True)
            with suppress(RuntimeError):  # there can be no more threads now; the next line tries again
                thread.start()
                self._thread = thread

    def _drain(self) -> None:
        """Write what waits, until nothing does."""
        pause = _LOOK
        while True:
            with self._lock:
                before = self._size
                self._write_waiting()
                if not self._waiting:
                    self._thread = None
                    return
                pause = _LOOK if self._size < before else min(2 * pause, _LONG_LOOK)
            time.sleep(pause)

    def _write_waiting(self) -> None:
        """Write what there is room for now. That lines are missing is said after those that were kept."""
        lost, self._lost = self._lost, 0
        while self._waiting:
            first = self._waiting[0]
            rest = self._try(first)
            self._size -= len(first) - len(rest)
            if rest:
                self._waiting[0] = rest
                break
            self._waiting.popleft()
        self._lost += lost


def _pieces(data: bytes) -> Iterator[bytes]:
    """Yield lines, as many together as can be written as a whole; a longer one alone."""
    start = 0
    while len(data) - start > WHOLE:
        end = data.rfind(b"\n", start, start + WHOLE) + 1 or data.index(b"\n", start) + 1
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


def _sender(stream: TextIO) -> tuple[Send, Callable[[], None]]:
    """Return what writes to *stream* without waiting, and what gives back what that needs.

    A pipe, socket or terminal is shared with other programs, which rely on writes that wait. So it is opened
    anew, or each call says that it must not wait.
    """
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError, AttributeError):
        return partial(_write_text, stream), _nothing  # no file, or a closed one
    if stat.S_ISREG(mode):
        return partial(os.write, descriptor), _nothing
    if stat.S_ISSOCK(mode):
        connection = socket.socket(fileno=os.dup(descriptor))
        return lambda data: connection.send(data, socket.MSG_DONTWAIT), connection.close
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # such as another user's
        return partial(_write_polled, descriptor), _nothing
    return partial(os.write, own), partial(os.close, own)


def _nothing() -> None:
    pass


def _write_text(stream: TextIO, data: bytes) -> int:
    stream.write(data.decode())
    stream.flush()
    return len(data)


def _write_polled(descriptor: int, data: bytes) -> int:
    """Write what a pipe takes without waiting, if no other process fills it in this moment."""
    writable = select.poll()
    writable.register(descriptor, select.POLLOUT)
    if not writable.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[:WHOLE])

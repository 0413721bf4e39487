"""Pacing: a thread waits for a client only as long as bytes move, and while the server does not stop."""

import errno
import math
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

#: Bytes that a client has to send or take within each ``client_timeout``, or the rest, if that is less.
LEAST_PROGRESS = 16 << 10
#: Seconds after which a thread that waits looks whether the server stops, and for which it still sends then.
_LOOK = 1.0
_ANSWER_TIME = 5.0
#: Bytes of a record of TLS.  Source: RFC 8446, section 5.1.
_RECORD_SIZE = 16 << 10
#: Bytes that one call sends over TLS, so that progress shows.
_SEND_SIZE = 64 << 10
#: What a call raises that would have to wait; and for which event, if that says so.
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_EVENTS: dict[type, int] = {ssl.SSLWantReadError: select.POLLIN, ssl.SSLWantWriteError: select.POLLOUT}


class ClientStalled(ConnectionResetError):
    """The client took too few bytes within its time, or before the server stops."""


class Pace:
    """Measures the progress of one direction; only time spent waiting for the client counts."""

    def __init__(self, window: float) -> None:
        """Demand LEAST_PROGRESS bytes in each *window* seconds."""
        self._window = window
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self._waited, self._moved = 0.0, 0

    def left(self) -> float:
        """Return the seconds that are left of the window; never 0, which means "do not wait" to a socket."""
        return max(self._window - self._waited, 0.001)

    def note(self, waited: float, moved: int) -> None:
        """Count seconds waited and bytes moved."""
        self._waited, self._moved = self._waited + waited, self._moved + moved
        if self._moved >= LEAST_PROGRESS:
            self.restart()


class PacedSocket:
    """A client's socket, plain or TLS, on which every wait of a thread is bounded by progress.

    It has the methods of a socket that gunicorn uses. A timeout that is set bounds each call as well. The
    socket itself does not block: what is there is taken without asking the kernel first.

    Attributes:
        asked: The beginning of the request that is handled.
        cut_at: When the server stops receiving, by the monotonic clock.
        ended: Whether nothing more can be received.
        began: When the request was handed to a thread, by the monotonic clock.
    """

    def __init__(self, sock: socket.socket, window: float) -> None:
        """Wrap *sock*; *window* as for Pace."""
        sock.settimeout(0)
        self._sock = sock
        self.asked = b""
        self.began = 0.0
        self.cut_at = math.inf
        self.ended = False
        self._timeout: float | None = None
        self._sent, self._head_end = 0, math.inf
        self._reading, self._writing = Pace(window), Pace(window)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the socket has
        return getattr(self._sock, name)

    def restart(self, asked: bytes) -> None:
        """Begin with another request, which begins with *asked*; no timeout is set."""
        self.asked, self._timeout = asked, None
        self.began, self._sent, self._head_end = time.monotonic(), 0, math.inf
        self._reading.restart()
        self._writing.restart()

    @property
    def body_sent(self) -> int:
        """Bytes of the response that the network has taken, without the head, which is sent first."""
        return int(max(self._sent - self._head_end, 0))

    def settimeout(self, timeout: float | None) -> None:
        """Bound each call to *timeout* seconds; None: by progress only."""
        self._timeout = timeout

    def setblocking(self, blocking: bool) -> None:  # noqa: FBT001 -- as of sockets
        """Wait as long as progress is made, or not at all."""
        self._timeout = None if blocking else 0.0

    def gettimeout(self) -> float | None:
        """Return the bound of each call."""
        return self._timeout

    @property
    def is_cut(self) -> bool:
        """Whether the server receives no more."""
        return time.monotonic() >= self.cut_at

    def recv(self, size: int) -> bytes:
        """Receive up to *size* bytes.

        None at the end: the client sends no more or is gone, sent too few in time, or the server stops. What
        it sent before is kept.

        Raises:
            TimeoutError: nothing arrived within the timeout that is set.
        """
        received = b""

        def receive() -> int:
            nonlocal received
            received = self._records(size) if isinstance(self._sock, ssl.SSLSocket) else self._sock.recv(size)
            return len(received)

        with suppress(ConnectionError):
            self._wait(self._reading, select.POLLIN, receive)
        self.ended = not received
        return received

    def _records(self, size: int) -> bytes:
        """Receive over TLS up to *size* bytes: one of its small records, and those that have arrived, too."""
        records = [self._sock.recv(min(size, _RECORD_SIZE))]
        with suppress(OSError):  # no other has arrived, or something that the next call finds, too
            while records[-1] and (size := size - len(records[-1])):
                records.append(self._sock.recv(min(size, _RECORD_SIZE)))
        return b"".join(records)

    def send(self, data: bytes | memoryview) -> int:
        """Send the beginning of *data*; return how much that was.

        Raises:
            ClientStalled: too few went in time.
            TimeoutError: nothing went within the timeout that is set.
        """
        sent = self._wait(self._writing, select.POLLOUT, lambda: self._sock.send(data), grace=_ANSWER_TIME)
        self._sent += sent
        return sent

    def sendall(self, data: bytes) -> None:
        """Send *data*; see ``send``."""
        self._head_end = min(self._head_end, self._sent + len(data))
        rest = memoryview(data)
        # Without TLS, the kernel takes what fits.
        at_once = _SEND_SIZE if isinstance(self._sock, ssl.SSLSocket) else len(rest)
        while rest:
            rest = rest[self.send(rest[:at_once]) :]

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Send *count* bytes of *file* from *offset* within the kernel; return how many there were.

        A file that grows says with ``reach(at)``, which waits, how far it reaches beyond a byte.
        """
        at, reach = offset, getattr(file, "reach", None)
        end = os.fstat(file.fileno()).st_size if count is None else offset + count
        try:
            while at < end:
                there = min(reach(at), end) if reach else end
                send = partial(os.sendfile, self._sock.fileno(), file.fileno(), at, there - at)
                sent = self._wait(self._writing, select.POLLOUT, send, grace=_ANSWER_TIME)
                if not sent:
                    break
                at += sent
                self._sent += sent
        finally:
            file.seek(at)  # as a socket's
        return at - offset

    @property
    def can_splice(self) -> bool:
        """Whether ``splice`` works: on Linux, and if no TLS is spoken."""
        return hasattr(os, "splice") and not isinstance(self._sock, ssl.SSLSocket)

    def splice(self, pipe: int, count: int) -> None:
        """Send *count* bytes that are in a pipe within the kernel; see ``send``."""
        while count:
            send = partial(os.splice, pipe, self._sock.fileno(), count)
            sent = self._wait(self._writing, select.POLLOUT, send, grace=_ANSWER_TIME)
            count -= sent
            self._sent += sent

    def _wait(self, pace: Pace, event: int, move: Callable[[], int], *, grace: float = 0) -> int:
        """Return what *move* moves, after waiting for *event* for up to what is left of the window.

        Args:
            event: Of ``poll``; over TLS, another one may be needed first.
            grace: Seconds that it may take beyond ``cut_at``, which may be set meanwhile.

        Raises:
            ClientStalled: it was too little, or it is too late.
            TimeoutError: see ``settimeout``.
        """
        began = now = time.monotonic()
        left = pace.left()
        allowed = left if self._timeout is None else min(left, self._timeout)
        while now < self.cut_at + grace:
            try:
                moved = move()
            except _BLOCKED as blocked:
                if not allowed:
                    raise
                if (rest := began + allowed - now) <= 0:
                    if allowed < left:
                        raise TimeoutError from None
                    break
                self.wait(_EVENTS.get(type(blocked), event), min(rest, _LOOK))
                now = time.monotonic()
            else:
                pace.note(now - began, moved)
                return moved
        raise ClientStalled(errno.ECONNRESET, "the client is too slow")

    def wait(self, event: int, seconds: float) -> bool:
        """Wait for an *event* of ``poll``, or an error; return whether it came within *seconds*."""
        poll = select.poll()
        poll.register(self._sock, event)
        return bool(poll.poll(seconds * 1000))

"""Connections of clients: what has arrived of a request, and how long a thread may wait for the rest.

Until a request can be handled, its connection waits in the worker's poller, where it costs no thread. A
thread that has begun with it waits for the client only as long as bytes move.
"""

import errno
import os
import re
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from flask import Response
from gunicorn import http
from gunicorn.sock import ssl_context
from gunicorn.util import http_date
from gunicorn.workers.gthread import TConn

from dualreg.web.slots import SMALL_BODY

#: Bytes that a client has to send or take within each ``client_timeout``, or the rest, if that is less.
LEAST_PROGRESS = 16 << 10
#: Bytes of a request's head that are kept while the rest is awaited.
HEAD_LIMIT = 256 << 10
#: Bytes of a refused body that are read at most before the connection is closed.
DISCARD_LIMIT = 8 << 20
_RECEIVE_SIZE = 64 << 10
#: Bytes that one call sends over TLS, so that progress shows.
_SEND_SIZE = 64 << 10
#: Seconds of silence after which the kernel asks whether the other side still exists; then between tries.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
#: Bytes of a request that show which path it is for.
_ASKED_SIZE = 1 << 10
_HEAD_END = b"\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,19})[ \t]*\r\n", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:", re.IGNORECASE)
#: The requests of load balancers, which ask whether the registry works.
_HEALTH = re.compile(rb"(?:GET|HEAD) /(?:_ping|_status|v1/_ping|v1/_status|v2/?)[ ?]")
#: The first character of a method. Clients that try TLS on a port without it begin with another.
_METHOD = re.compile(rb"[A-Za-z\r\n]")


class ClientStalled(ConnectionResetError):
    """The client neither sent nor took enough bytes within its time."""


class Refused(Exception):
    """What arrived is not handled at all.

    Attributes:
        status: That of the response.
        message: For people.
    """

    def __init__(self, status: int, message: str) -> None:
        """Refuse with *status*."""
        super().__init__(message)
        self.status, self.message = status, message


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

    It has the methods of a socket that gunicorn uses. A timeout that is set bounds each call as well.

    Attributes:
        asked: The beginning of the request that is handled.
    """

    def __init__(self, sock: socket.socket, window: float) -> None:
        """Wrap *sock*; *window* as for Pace."""
        self._sock = sock
        self.asked = b""
        self._timeout: float | None = None
        self._reading, self._writing = Pace(window), Pace(window)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the socket has
        return getattr(self._sock, name)

    def restart(self, asked: bytes) -> None:
        """Begin with another request, which begins with *asked*."""
        self.asked = asked
        self._reading.restart()
        self._writing.restart()

    def settimeout(self, timeout: float | None) -> None:
        """Bound each call to *timeout* seconds; None: by progress only."""
        self._timeout = timeout

    def setblocking(self, blocking: bool) -> None:  # noqa: FBT001 -- as of sockets
        """Wait as long as progress is made, or not at all."""
        self._timeout = None if blocking else 0.0

    def gettimeout(self) -> float | None:
        """Return the bound of each call."""
        return self._timeout

    def recv(self, size: int) -> bytes:
        """Receive up to *size* bytes; none at the end.

        Raises:
            ClientStalled: too few arrived in time.
            TimeoutError: nothing arrived within the timeout that is set.
        """
        received = b""

        def receive() -> int:
            nonlocal received
            received = self._sock.recv(size)
            return len(received)

        self._wait(self._reading, receive)
        return received

    def send(self, data: bytes | memoryview) -> int:
        """Send the beginning of *data*; return how much that was.

        Raises:
            ClientStalled, TimeoutError: as ``recv``.
        """
        return self._wait(self._writing, lambda: self._sock.send(data))

    def sendall(self, data: bytes) -> None:
        """Send *data*; see ``send``."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest[:_SEND_SIZE]) :]

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Send *count* bytes of *file* from *offset* within the kernel; return how many there were."""
        descriptor, at = file.fileno(), offset
        end = os.fstat(descriptor).st_size if count is None else offset + count
        try:
            while at < end:
                start, length = at, end - at
                sent = self._wait(self._writing, lambda: self._send_from(descriptor, start, length))  # noqa: B023 -- called at once
                if not sent:
                    break
                at += sent
        finally:
            file.seek(at)  # as a socket's: the access log counts what was sent
        return at - offset

    def _send_from(self, descriptor: int, start: int, length: int) -> int:
        """Send as much as fits, after waiting until anything does."""
        try:
            return os.sendfile(self._sock.fileno(), descriptor, start, length)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._sock, select.POLLOUT)
            if not poll.poll((self._sock.gettimeout() or 0) * 1000):
                raise TimeoutError from None
            return os.sendfile(self._sock.fileno(), descriptor, start, length)

    def _wait(self, pace: Pace, move: Callable[[], int]) -> int:
        """Return what *move* moves; it may wait for what is left of the window."""
        left = pace.left()
        self._sock.settimeout(left if self._timeout is None else min(left, self._timeout))
        began = time.monotonic()
        try:
            moved = move()
        except TimeoutError:
            if self._timeout is not None and self._timeout < left:
                raise
            raise ClientStalled(errno.ECONNRESET, "the client is too slow") from None
        pace.note(time.monotonic() - began, moved)
        return moved


class Connection(TConn):  # type: ignore[misc]  # gunicorn is untyped
    """A client's connection between requests, and while a request arrives or its rest is discarded.

    Attributes:
        deadline: When the worker stops waiting for the client, by the monotonic clock.
    """

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, window: float) -> None:  # noqa: ANN401 -- gunicorn's, and one more
        """Begin before the first byte; *window* as for Pace."""
        super().__init__(cfg, sock, client, server)
        _keep_alive(sock)
        self.initialized = True  # what gunicorn would do for this in a thread is done by receive()
        self.window = window
        self.deadline = time.monotonic() + window
        self.lingering = False
        self._raw = sock
        self._received = bytearray()
        self._discarded = 0
        if cfg.is_ssl:
            context = ssl_context(cfg)
            self._raw = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.sock = PacedSocket(self._raw, window)
        self.parser = http.get_parser(cfg, self.sock, client)
        self._shaken = not cfg.is_ssl

    @property
    def asks_for_health(self) -> bool:
        """Whether the request that arrives is a load balancer's."""
        return _HEALTH.match(self._received) is not None

    def receive(self) -> bool:
        """Take what has arrived, without waiting; return whether a thread can handle the request.

        Raises:
            Refused: it is no request, or too large.
            OSError: the client is gone, or does not speak TLS.
        """
        self._raw.settimeout(0)
        try:
            if not self._shaken:
                self._raw.do_handshake()  # type: ignore[attr-defined]  # of TLS
                self._shaken = True
            while not self._is_ready():
                if not (data := self._raw.recv(_RECEIVE_SIZE)):
                    return self._at_end()
                if not self._received:
                    self.deadline = time.monotonic() + self.window
                self._received += data
                self._check_head()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def _check_head(self) -> None:
        if not _METHOD.match(self._received):
            raise Refused(400, "not an HTTP request")  # a client that tried TLS goes on without it
        if len(self._received) > HEAD_LIMIT and _HEAD_END not in self._received:
            if b"\n" in self._received:
                raise Refused(431, "the headers are too large")
            raise Refused(414, "the request line is too long")

    @property
    def asked(self) -> bytes:
        """The beginning of the request that arrives; empty before its first byte."""
        return bytes(self._received[:_ASKED_SIZE])

    def hand_over(self) -> None:
        """Give what was received to the parser, which a thread continues with."""
        self.sock.restart(self.asked)
        self.parser.unreader.unread(bytes(self._received))
        self._received.clear()
        self.sock.settimeout(None)

    def has_read_body(self, patience: float) -> bool:
        """Return whether the request ends here, after discarding what is left of it, if that is small.

        Args:
            patience: Seconds to wait for each part that has not arrived.
        """
        body, left = self.parser.mesg.body, SMALL_BODY
        if body.failed:
            return False
        self.sock.settimeout(patience)
        try:
            while left > 0 and (data := body.read(1024)):
                left -= len(data)
        except Exception:  # noqa: BLE001 -- gunicorn's errors of malformed bodies share no other class
            return False
        return left > 0

    def begin_idle(self, seconds: float) -> None:
        """Wait for another request for *seconds*; parts of it may have arrived."""
        self._received += self.parser.unreader.take_buffered()
        self.deadline = time.monotonic() + (self.window if self._received else seconds)

    def answer(self, data: bytes) -> None:
        """Send *data*, as much as fits, without waiting.

        Raises:
            OSError: the client is gone.
        """
        self._raw.settimeout(0)
        if data and self._shaken:
            self._raw.send(data)

    def begin_lingering(self, seconds: float) -> None:
        """Send no more, and discard what still arrives, so that the client gets to read the response.

        Closing a connection with unread bytes resets it, and the client, or nginx, may never see the
        response.
        Source: RFC 9112, 9.6.

        Raises:
            OSError: the client is gone.
        """
        self.lingering = True
        self.deadline = time.monotonic() + seconds
        self._raw.settimeout(0)
        self._raw.shutdown(socket.SHUT_WR)

    def discard(self) -> bool:
        """Discard what has arrived; return whether that was the end, or DISCARD_LIMIT bytes.

        Raises:
            OSError: the client is gone.
        """
        try:
            while data := self._raw.recv(_RECEIVE_SIZE):
                self._discarded += len(data)
                if self._discarded > DISCARD_LIMIT:
                    return True
        except BlockingIOError:
            return False
        return True

    def _is_ready(self) -> bool:
        """Whether the head has arrived, with the body if that is small and comes unasked."""
        head = self._received.find(_HEAD_END)
        if head < 0:
            return False
        length = _CONTENT_LENGTH.search(self._received, 0, head + 2)
        wanted = int(length[1]) if length else 0
        if wanted > SMALL_BODY or _EXPECT.search(self._received, 0, head):
            return True
        return len(self._received) >= head + len(_HEAD_END) + wanted

    def _at_end(self) -> bool:
        """Let the request be handled if its client sends no more: it may wait for the response."""
        if _HEAD_END not in self._received:
            raise ConnectionResetError("the client closed the connection")
        return True


def serialize(response: Response, asked: bytes) -> bytes:
    """Return the last response on a connection as it is sent to a client that asked for *asked*."""
    body = response.get_data()
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in response.headers)]
    lines += [f"Content-Length: {len(body)}", f"Date: {http_date()}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if asked.startswith(b"HEAD ") else body)


def _keep_alive(sock: socket.socket) -> None:
    """Let the kernel find out that the other side is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sock.family != socket.AF_UNIX:
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

"""Connections of clients: what has arrived of a request, and how one ends.

Until a request can be handled, its connection waits in the worker's poller, where it costs no thread. How
long a thread waits for the rest is in ``pacing``.
"""

import re
import select
import socket
import ssl
import time
from functools import cached_property
from typing import Any

from flask import Response
from gunicorn.sock import ssl_context
from gunicorn.util import http_date
from gunicorn.workers.gthread import TConn

from dualreg.cli.exchange import common_environment
from dualreg.cli.fast_path import Answer
from dualreg.cli.pacing import PacedSocket
from dualreg.cli.parsing import Parser
from dualreg.cli.plain_requests import END, Head, parse, peer_of
from dualreg.web.slots import SMALL_BODY

#: Bytes of a request's head that are kept while the rest is awaited.
HEAD_LIMIT = 256 << 10
#: Bytes of a refused body that are read at most before the connection is closed.
DISCARD_LIMIT = 8 << 20
_RECEIVE_SIZE = 64 << 10
#: Seconds of silence after which the kernel asks whether the other side still exists; then between tries.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
#: Bytes of a request that show which path it is for, and what the log says of it.
_ASKED_SIZE = 8 << 10
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,19})[ \t]*\r\n", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:", re.IGNORECASE)
#: The requests of load balancers, which ask whether the registry works.
_HEALTH = re.compile(rb"(?:GET|HEAD) /(?:_ping|_status|v1/_ping|v1/_status|v2/?)[ ?]")
#: The first character of a method. Clients that try TLS on a port without it begin with another.
_METHOD = re.compile(rb"[A-Za-z\r\n]")


class Refused(Exception):
    """What arrived is not handled at all.

    Attributes:
        status: That of the response.
        message: For people.
        retry_after: Seconds after which to try again.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        """Refuse with *status*."""
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


class Arriving:
    """What has arrived of a request. Each byte of the head is looked at once, however small the packets are.

    Attributes:
        data: The bytes.
        head: The head, without its end; empty before that has arrived.
        plain: What it says; None: not here, or it is not plain.
    """

    head = b""
    plain: Head | None = None

    def __init__(self) -> None:
        """Begin before the first byte."""
        self.data = bytearray()
        self._wanted: int | None = None

    def add(self, data: bytes | bytearray) -> None:
        """Add what came next."""
        looked_at = max(len(self.data) - len(END) + 1, 0)
        self.data += data
        if self._wanted is None and (end := self.data.find(END, looked_at)) >= 0:
            self.head = bytes(self.data[:end])
            self.plain = parse(self.head)
            self._wanted = end + len(END) + self._small_body(end)

    def take(self) -> "Arriving":
        """Return what has arrived of the request after this one, which is ready."""
        following = Arriving()
        following.add(self.data[self._wanted :])
        return following

    def rest(self, *, after_head: bool) -> bytes:
        """Return all that has arrived, or what follows the head."""
        start = len(self.head) + len(END) if after_head else 0
        return bytes(memoryview(self.data)[start:])

    @property
    def has_head(self) -> bool:
        """Whether the head has arrived."""
        return self._wanted is not None

    @property
    def is_ready(self) -> bool:
        """Whether the head has arrived, with the body if that is small and comes unasked."""
        return self._wanted is not None and len(self.data) >= self._wanted

    def _small_body(self, end: int) -> int:
        """Return the size of the body after the head that ends at *end*; 0 if a thread waits for that."""
        if self.plain:
            size = self.plain.length or 0
            return 0 if size > SMALL_BODY else size
        length = _CONTENT_LENGTH.search(self.data, 0, end + 2)
        size = int(length[1]) if length else 0
        return 0 if size > SMALL_BODY or _EXPECT.search(self.data, 0, end) else size


class Connection(TConn):  # type: ignore[misc]  # gunicorn is untyped
    """A client's connection between requests, and while a request arrives or its rest is discarded.

    Attributes:
        deadline: When the worker stops waiting for the client, by the monotonic clock.
        began: When the request that arrives began.
        late: Whether it was accepted only to be told that the server stops.
        monitored: Whether it came to ``monitoring_bind``, where no TLS is spoken.
        request: gunicorn's request that a thread handles; None while there is none.
        peer: What the WSGI environments of its plain requests have in common.
        unsent: The last answer and how much of it was sent, while that waits for the client.
    """

    late = monitored = False
    request: Any = None
    unsent: tuple[Answer, int] | None = None

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, window: float) -> None:  # noqa: ANN401 -- gunicorn's, and one more
        """Begin before the first byte; *window* as for Pace."""
        super().__init__(cfg, sock, client, server)
        _keep_alive(sock)
        self.initialized = True  # what gunicorn would do for this in a thread is done by receive()
        self.window = window
        self.began = time.monotonic()
        self.deadline = self.began + window
        self.lingering = False
        self.peer = peer_of(client)
        self._raw = sock
        self._arriving = Arriving()
        self._discarded = 0
        self._is_tls = cfg.is_ssl and not self.monitored
        if self._is_tls:
            context = ssl_context(cfg)
            self._raw = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.sock = PacedSocket(self._raw, window)
        self.parser = Parser(cfg, self.sock, client)
        self._shaken = not self._is_tls

    @cached_property
    def common(self) -> dict[str, Any]:
        """What the environments of all its plain requests have in common, in threads."""
        return common_environment(self.cfg, self.sock, self.client, self.server)

    @property
    def asks_for_health(self) -> bool:
        """Whether the request that arrives is a load balancer's."""
        return _HEALTH.match(self._arriving.data) is not None

    def receive(self) -> bool:
        """Take what has arrived, without waiting; return whether a thread can handle the request.

        Raises:
            Refused: it is no request, or too large.
            OSError: the client is gone, or does not speak TLS.
        """
        try:
            if not self._shaken:
                self._raw.do_handshake()  # type: ignore[attr-defined]  # of TLS
                self._shaken = True
            while not self._is_complete():
                if not (data := self._raw.recv(_RECEIVE_SIZE)):
                    return self._at_end()
                if not self._arriving.data:
                    self.began = time.monotonic()
                    self.deadline = self.began + self.window
                self._arriving.add(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def _is_complete(self) -> bool:
        """Return whether a request has arrived, after refusing what is none."""
        data = self._arriving.data
        if data and not _METHOD.match(data):
            raise Refused(400, "not an HTTP request")  # a client that tried TLS goes on without it
        if len(data) > HEAD_LIMIT and not self._arriving.has_head:
            if b"\n" in data:
                raise Refused(431, "the headers are too large")
            raise Refused(414, "the request line is too long")
        return self._arriving.is_ready

    @property
    def arrived(self) -> bytes:
        """The head of the request that has arrived, when ``receive`` has returned True."""
        return self._arriving.head

    @property
    def plain(self) -> Head | None:
        """What it says; None if it is not plain."""
        return self._arriving.plain

    @property
    def has_more(self) -> bool:
        """Whether ``receive`` may find more, although nothing need arrive."""
        return self._arriving.is_ready or (self._is_tls and self._raw.pending() > 0)  # type: ignore[attr-defined]  # of TLS

    @property
    def asked(self) -> bytes:
        """The beginning of the request that arrives; empty before its first byte."""
        return bytes(self._arriving.data[:_ASKED_SIZE])

    def is_followed(self, patience: float) -> bool:
        """Return whether another request has arrived, after waiting *patience* seconds for its first byte.

        Raises:
            Refused, OSError: as ``receive``.
        """
        return (self.has_more or self.sock.wait(select.POLLIN, patience)) and self.receive()

    def hand_over(self) -> None:
        """Give what was received to the parser, which a thread continues with."""
        self.sock.restart(self.asked)
        plain = self.plain if self.parser.reads_plain else None
        self.parser.give(plain, self._arriving.rest(after_head=plain is not None))
        self._arriving = Arriving()

    def end_by(self, cut_at: float) -> None:
        """Receive the rest of the request until *cut_at*; its response, if it has not begun, is the last."""
        self.sock.cut_at = cut_at
        if self.request is not None:
            self.request.force_close()

    def has_read_body(self, patience: float) -> bool:
        """Return whether the request ends here, after discarding what is left of it, if that is small.

        Args:
            patience: Seconds to wait for each part that has not arrived.
        """
        request, left = self.parser.mesg, SMALL_BODY
        body = request and request.body
        if body is None:
            return False
        if body.failed or body.is_read:
            return not (body.failed or self.sock.ended)
        self.sock.settimeout(patience)
        try:
            while left > 0 and (data := body.read(1024)):
                left -= len(data)
        except Exception:  # noqa: BLE001 -- gunicorn's errors of malformed bodies share no other class
            return False
        return left > 0 and not self.sock.ended  # of a body that ended early, gunicorn knows no end

    def begin_idle(self, seconds: float) -> None:
        """Wait for another request for *seconds*; parts of it may have arrived."""
        if following := self.parser.unreader.take_buffered():
            self._arriving.add(following)
        self.began = time.monotonic()
        self.deadline = self.began + (self.window if self._arriving.data else seconds)

    def begin_next(self, seconds: float) -> None:
        """Wait for the request after the one that has arrived, as ``begin_idle``."""
        self._arriving = self._arriving.take()
        self.begin_idle(seconds)

    def answer(self, data: bytes | memoryview) -> int:
        """Send *data*, as much as fits, without waiting; return how much that was.

        Raises:
            OSError: the client is gone.
        """
        if not data or not self._shaken:
            return 0
        try:
            return self._raw.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def send_rest(self, answer: Answer, sent: int) -> bool:
        """Send what follows the first *sent* bytes of an answer, in a thread; return True.

        Raises:
            OSError: the client is gone, or too slow.
        """
        self.sock.restart(b"")
        data = memoryview(answer.data)
        try:
            while sent < len(data):
                sent += self.sock.send(data[sent:])
        finally:
            answer.end(sent)
        return True

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

    def close(self) -> None:
        """Close it; what was not sent is not."""
        if self.unsent:
            answer, sent = self.unsent
            answer.end(sent)
        super().close()

    def _at_end(self) -> bool:
        """Let the request be handled if its client sends no more: it may wait for the response."""
        if not self._arriving.has_head:
            raise ConnectionResetError("the client closed the connection")
        return True


class MonitoringConnection(Connection):
    """A connection to ``monitoring_bind``."""

    monitored = True


def serialize(response: Response, asked: bytes) -> bytes:
    """Return the last response on a connection as it is sent to a client that asked for *asked*."""
    body = response.get_data()
    headers = response.headers
    headers.update({"Content-Length": len(body), "Date": http_date(), "Connection": "close"})
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if asked.startswith(b"HEAD ") else body)


def _keep_alive(sock: socket.socket) -> None:
    """Let the kernel find out that the other side is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sock.family != socket.AF_UNIX:
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

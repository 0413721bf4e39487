"""Many small requests at once, as fast as they are answered.

One loop over all connections. It finds the same rates as wrk, and costs a processor as much for each request,
6 to 8 µs. Unlike wrk it can send HEAD (wrk waits for the body that such an answer does not have), and it
checks the status and the length of every answer.
"""

import re
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from tests.benchmarks.wire import HEAD_END, Refused, connect

#: Clients that ask at once, each over its own connection. One process of dualreg may have them all, and sends
#: blobs to 10 of one address at once.
CONNECTIONS = 8
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_BUFFER = 256 << 10
#: Seconds to wait for the first answer.
_PATIENCE = 60


@dataclass(frozen=True, slots=True)
class Answered:
    """How many requests were answered in how many seconds."""

    count: int
    seconds: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.count / self.seconds


def load(host: str, requests: Sequence[bytes], status: int, length: int, seconds: float) -> Answered:
    """Send *requests* in turn over all connections, on each when the one before it is answered.

    It ends when that many *seconds* are over and an answer has come.

    Args:
        requests: As they are sent; without bodies.
        status: Of every answer.
        length: Of every answer: bytes after the head, as they come.

    Raises:
        Refused: an answer has another status or length, or none comes.
    """
    with select.epoll() as poll:
        run = _Load(host, cycle(requests), b"%d" % status, length, poll)
        for _ in range(CONNECTIONS):
            _Client(run)
        try:
            return _run(run, seconds)
        finally:
            for client in run.clients.values():
                client.close()


@dataclass(frozen=True, slots=True)
class _Load:
    """What the connections have in common."""

    host: str
    requests: Iterator[bytes]
    status: bytes
    length: int
    poll: select.epoll
    clients: "dict[int, _Client]" = field(default_factory=dict)


def _run(run: _Load, seconds: float) -> Answered:
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or not count:
        if elapsed > max(seconds, _PATIENCE):
            raise Refused(f"no answer in {elapsed:.0f} seconds")
        for number, _ in run.poll.poll(1):
            count += run.clients[number].receive()
    return Answered(count, elapsed)


class _Client:
    """A connection on which one request waits for its answer.

    A server may close it after an answer, as nginx does after some; then the next request is sent again.
    """

    def __init__(self, run: _Load) -> None:
        self._run = run
        self._open()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def receive(self) -> bool:
        """Receive what has come; if it completes an answer, send the next request and return True."""
        try:
            data = self._socket.recv(_BUFFER)
        except ConnectionResetError:
            data = b""
        if not data:
            self._reopen()
            return False
        answer = self._part + data if self._part else data
        end = answer.find(HEAD_END)
        missing = end + len(HEAD_END) + self._run.length - len(answer)
        if end >= 0 and (missing < 0 or self._is_other(answer, end, complete=not missing)):
            raise Refused(f"not the answer that came first: {answer[:300]!r}")
        if end < 0 or missing:
            self._part = answer
            return False
        self._part, self._fresh = b"", False
        try:
            self._socket.send(next(self._run.requests))
        except (BrokenPipeError, ConnectionResetError):
            self._reopen()
        return True

    def _is_other(self, answer: bytes, end: int, *, complete: bool) -> bool:
        """Return whether an answer, whose head ends there, has another status, or says that it is shorter."""
        if answer[9:12] != self._run.status:
            return True
        stated = None if complete else _LENGTH.search(answer, 0, end + 2)
        return stated is not None and int(stated[1]) != self._run.length

    def _open(self) -> None:
        self._socket = connect(self._run.host)
        self._part, self._fresh = b"", True
        self._run.clients[self._socket.fileno()] = self
        self._run.poll.register(self._socket.fileno(), select.EPOLLIN)
        self._socket.send(next(self._run.requests))

    def _reopen(self) -> None:
        if self._part or self._fresh:
            raise Refused(f"the connection ended without an answer: {self._part[:300]!r}")
        del self._run.clients[self._socket.fileno()]
        self.close()
        self._open()

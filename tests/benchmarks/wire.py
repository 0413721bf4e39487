"""HTTP as fast as Python can send and receive it, so that the server is what is measured.

Bodies are sent from memory and received into one buffer; nothing is hashed or written here.
"""

import http.client
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

#: Bytes received at a time.
_BUFFER = 1 << 20
_TIMEOUT = 120
_HEAD_END = b"\r\n\r\n"


class Refused(Exception):
    """The server answered something else than a benchmark needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a small request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def location(self) -> str:
        """The path and query of the Location header, whether it was absolute or not."""
        return _path(self.headers["Location"])


class Connection:
    """One kept-alive connection for small requests."""

    def __init__(self, host: str) -> None:
        """Prepare to connect to *host*, as HOST:PORT."""
        self._http = http.client.HTTPConnection(host, timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer.

        Raises:
            Refused: the answer is an error.
        """
        self._http.request(method, path, body=body, headers=dict(headers or {}))
        response = self._http.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise Refused(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer


def send(
    host: str, method: str, path: str, pieces: Iterable[bytes | memoryview], headers: Mapping[str, str]
) -> str:
    """Send a request whose body is *pieces*, already in their transfer coding; return its Location as a path.

    Raises:
        Refused: the answer is an error.
    """
    with _connect(host) as connection:
        connection.sendall(_head(host, method, path, headers))
        for piece in pieces:
            connection.sendall(piece)
        with connection.makefile("rb") as reader:
            status = reader.readline()
            answered = http.client.parse_headers(reader)
    _check(status, method, path)
    return _path(answered.get("Location", ""))


def discard(host: str, path: str, headers: Mapping[str, str] | None = None) -> int:
    """Get *path*, throw the body away as it comes, and return its length in bytes.

    Raises:
        Refused: the answer is an error.
    """
    buffer = bytearray(_BUFFER)
    with _connect(host) as connection:
        connection.sendall(_head(host, "GET", path, {**(headers or {}), "Connection": "close"}))
        head = b""
        while _HEAD_END not in head:
            received = connection.recv(65536)
            if not received:
                raise Refused(f"GET {path}: the connection ended inside the headers")
            head += received
        _check(head, "GET", path)
        length = len(head) - head.index(_HEAD_END) - len(_HEAD_END)
        while count := connection.recv_into(buffer):
            length += count
    return length


def head_rate(host: str, path: str, *, connections: int, seconds: float) -> float:
    """Return how many HEAD requests a second are answered over that many connections.

    One loop over non-blocking sockets: wrk cannot do it, since it waits for the body that HEAD does not have.

    Raises:
        Refused: an answer is an error.
    """
    request = _head(host, "HEAD", path, {})
    answered = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = _connect(host)
            connection.sendall(request)
            selector.register(connection, selectors.EVENT_READ)
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            for connection in _readable(selector):
                answer = connection.recv(65536)
                if not answer.endswith(_HEAD_END):
                    raise Refused(f"HEAD {path}: a broken answer: {answer[:100]!r}")
                _check(answer, "HEAD", path)
                answered += 1
                connection.sendall(request)
        for key in [*selector.get_map().values()]:
            _socket(key).close()
    return answered / elapsed


def chunked(block: bytes, size: int) -> bytes:
    """Return *block* in chunked transfer coding, in chunks of *size* bytes, without the end of the body."""
    pieces = (block[start : start + size] for start in range(0, len(block), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def _path(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _readable(selector: selectors.BaseSelector) -> Iterator[socket.socket]:
    for key, _ in selector.select(1):
        yield _socket(key)


def _socket(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj


def _connect(host: str) -> socket.socket:
    name, _, port = host.rpartition(":")
    connection = socket.create_connection((name, int(port)), timeout=_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _head(host: str, method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{key}: {headers[key]}" for key in headers)]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _check(answer: bytes, method: str, path: str) -> None:
    status = answer.split(b"\r\n", 1)[0]
    if not status.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")):
        raise Refused(f"{method} {path}: {status.decode('latin-1').strip() or 'no answer'}")

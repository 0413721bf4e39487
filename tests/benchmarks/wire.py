"""HTTP as fast as Python can send and receive it, so that the server is what is measured.

Bodies are sent from memory and received into one buffer; nothing is hashed or written here.
"""

import http.client
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Self
from urllib.parse import urlsplit

#: Ends the head of a message.
HEAD_END = b"\r\n\r\n"
#: Ends a body in chunked transfer coding.
LAST_CHUNK = b"0\r\n\r\n"
#: Headers of a request with a body: of known length, and in chunked transfer coding.
STREAM = {"Content-Type": "application/octet-stream"}
CHUNKED = {"Transfer-Encoding": "chunked", **STREAM}
#: Bytes of a chunk: what Go's HTTP client, and so Docker, sends.
CHUNK = 32 << 10
#: Bytes received at a time of a body that is thrown away.
_BUFFER = 1 << 20
_TIMEOUT = 120
_ERROR = 400
_WITHOUT_BODY = (204, 304)


class Refused(Exception):
    """The server answered something else than a benchmark needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a small request.

    Attributes:
        headers: By name in lower case; of several with one name the last.
        received: Bytes of the body as they came, in their transfer coding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: int

    @property
    def location(self) -> str:
        """The path and query of the Location header, whether it was absolute or not."""
        parts = urlsplit(self.headers["location"])
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    @property
    def length(self) -> int:
        """The Content-Length: of an answer to HEAD, that of the body it would have."""
        return int(self.headers.get("content-length", len(self.body)))


class Connection:
    """A kept-alive connection, for one request after the other."""

    def __init__(self, host: str, headers: Mapping[str, str] | None = None) -> None:
        """Prepare to connect to *host*, as HOST:PORT, and to send *headers* with every request."""
        self._host, self._headers = host, dict(headers or {})
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; another request opens a new one."""
        if self._socket and self._reader:
            self._reader.close()
            self._socket.close()
        self._socket = self._reader = None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes | memoryview] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        allowed: int = 0,
    ) -> Answer:
        """Send one request and return its answer.

        Args:
            body: As a whole, or its pieces in the transfer coding that *headers* name.
            allowed: An error that is expected.

        Raises:
            Refused: the answer is an error.
        """
        if self._socket is None:
            self._socket = connect(self._host)
            self._reader = self._socket.makefile("rb")
        own = {"Content-Length": str(len(body))} if isinstance(body, bytes) and method != "GET" else {}
        lines = head(self._host, method, path, own | self._headers | dict(headers or {}))
        if isinstance(body, bytes):
            self._socket.sendall(lines + body)
        else:
            self._socket.sendall(lines)
            for piece in body:
                self._socket.sendall(piece)
        answer = self._receive(method)
        if answer.status >= _ERROR and answer.status != allowed:
            raise Refused(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer

    def _receive(self, method: str) -> Answer:
        assert self._reader is not None
        status = self._reader.readline()[9:12]
        if not status.isdigit():
            raise Refused(f"{method}: no answer")
        headers: dict[str, str] = {}
        while line := self._reader.readline().decode("latin-1").rstrip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        bare = method == "HEAD" or int(status) in _WITHOUT_BODY
        body, received = (b"", 0) if bare else _body(self._reader, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(status), headers, body, received)


def discard(host: str, path: str, headers: Mapping[str, str] | None = None) -> int:
    """Get *path*, throw the body away as it comes, and return its length in bytes.

    Raises:
        Refused: the answer is an error.
    """
    buffer = bytearray(_BUFFER)
    with connect(host) as connection:
        connection.sendall(head(host, "GET", path, {**(headers or {}), "Connection": "close"}))
        answer = b""
        while HEAD_END not in answer:
            received = connection.recv(65536)
            if not received:
                raise Refused(f"GET {path}: the connection ended inside the headers")
            answer += received
        if answer[9:10] != b"2":
            raise Refused(f"GET {path}: {answer[:300]!r}")
        length = len(answer) - answer.index(HEAD_END) - len(HEAD_END)
        while count := connection.recv_into(buffer):
            length += count
    return length


def chunked(block: bytes, size: int = CHUNK) -> bytes:
    """Return *block* in chunked transfer coding, in chunks of *size* bytes, without the end of the body."""
    pieces = (block[start : start + size] for start in range(0, len(block), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def connect(host: str) -> socket.socket:
    """Return a connection to *host*, as HOST:PORT, that sends small requests at once."""
    name, _, port = host.rpartition(":")
    connection = socket.create_connection((name, int(port)), timeout=_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(host: str, method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{key}: {headers[key]}" for key in headers)]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _body(reader: BufferedReader, headers: Mapping[str, str]) -> tuple[bytes, int]:
    """Return a body, and how many bytes it had in its transfer coding."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        length = headers.get("content-length")
        body = reader.read() if length is None else reader.read(int(length))
        if length is not None and len(body) != int(length):
            raise http.client.IncompleteRead(body, int(length) - len(body))
        return body, len(body)
    pieces, received = [], 0
    while True:
        line = reader.readline()
        size = int(line.partition(b";")[0], 16)
        pieces.append(reader.read(size))
        received += len(line) + size + len(reader.readline())
        if not size:
            return b"".join(pieces), received

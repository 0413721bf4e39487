"""A proxy before an S3 server that fails as networks and object stores do."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import urlsplit

#: What a busy object store answers.  Source: Amazon S3, "Error responses".
_BUSY = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
)
_BROKEN = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Try again.</Message></Error>"
#: Seconds of a slow answer.
SLOW = 0.2
#: What a server says that is no object store.
_PAGE = b"<html><br>Welcome!</html>"
_NO_UPLOAD = b"<?xml version='1.0'?><Error><Code>NoSuchUpload</Code><Message>None.</Message></Error>"
_EXPIRED = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>It has expired.</Message></Error>"


@dataclass
class Faults:
    """What the proxy does to requests.

    Attributes:
        kind: One of KINDS.
        times: How many requests it happens to; they then go through.
        wanted: Whether it happens to a request, given its method and path.
        requests: The methods and paths of all that came.
        goes_on: What those wait for that hang.
    """

    kind: str = ""
    times: int = 0
    wanted: Callable[[str, str], bool] = lambda _, __: True
    requests: list[tuple[str, str]] = field(default_factory=list)
    goes_on: Event = field(default_factory=Event)

    def begin(self, kind: str) -> None:
        """Let this happen to all requests from now on."""
        self.kind, self.times = kind, 1 << 30
        self.goes_on.clear()

    def end(self) -> None:
        """Let nothing happen from now on; what hangs breaks off."""
        self.times = 0
        self.goes_on.set()

    def take(self, method: str, path: str) -> str:
        """Return what happens to a request; empty: nothing."""
        self.requests.append((method, path))
        if not self.times or not self.wanted(method, path):
            return ""
        self.times -= 1
        return self.kind


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults
    upstream: str

    def _handle(self) -> None:
        kind = self.faults.take(self.command, self.path)
        body = self._read(int(self.headers.get("Content-Length", 0)), slowly=kind == "slow request")
        if kind in _INSTEAD:
            self._answer(*_INSTEAD[kind])
            return
        if kind == "hanging":
            self.faults.goes_on.wait()
        if kind in ("lost request", "hanging"):
            self._hang_up()
            return
        if kind == "damaged request" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if kind == "slow":
            time.sleep(SLOW)
        with closing(HTTPConnection(self.upstream, timeout=30)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            self._pass_on(connection.getresponse(), kind)

    def _read(self, size: int, *, slowly: bool) -> bytes:
        """Return the body; of a slow one, half a mebibyte at a time, with pauses between them."""
        pieces = list[bytes]()
        while slowly and size > _PIECE:
            time.sleep(0.25)
            pieces.append(self.rfile.read(_PIECE))
            size -= _PIECE
        return b"".join((*pieces, self.rfile.read(size)))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 -- http.server's names

    def _pass_on(self, answer: HTTPResponse, kind: str) -> None:
        content = _PAGE if kind == "other answer" else answer.read()
        if kind == "lost answer":
            self._hang_up()
            return
        self.send_response(answer.status)
        left_out = _HOP | {"etag"} if kind == "lost tag" else _HOP
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in left_out]
        if self.command != "HEAD":
            headers.append(("Content-Length", str(len(content))))
        else:
            headers += [
                (name, value) for name, value in answer.getheaders() if name.lower() == "content-length"
            ]
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if kind in ("truncated answer", "hanging answer"):
            with suppress(OSError):
                self.wfile.write(content[: len(content) // 2])
            if kind == "hanging answer":
                self.faults.goes_on.wait()
            self._hang_up()
            return
        with suppress(OSError):  # the client may have given up
            self.wfile.write(content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


#: Bytes of a slow request that are read at a time, and that wait in the kernel to be read.
_PIECE, _BUFFER = 1 << 19, 1 << 18
_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
_INSTEAD = {
    "busy": (503, _BUSY),
    "broken": (500, _BROKEN),
    "expired": (400, _EXPIRED),
    "no such upload": (404, _NO_UPLOAD),
}
#: What passes if it is tried again.
KINDS = ("busy", "broken", "lost request", "lost answer", "truncated answer", "slow")


@contextmanager
def faulty(endpoint: str, port: int = 0) -> Iterator[tuple[str, Faults]]:
    """Run the proxy for the block; yield its URL, and what it does, which is nothing at first.

    From the end of the block on, it refuses connections, and gives up those that it has.
    """
    faults = Faults()
    handler = type("Handler", (_Handler,), {"faults": faults, "upstream": urlsplit(endpoint).netloc})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", faults
        finally:
            faults.kind, faults.times = "lost request", 1 << 30
            faults.goes_on.set()
            server.shutdown()
            thread.join()

"""The network between a registry and its upstream: it counts, slows, stalls, cuts and damages what passes."""

import http.client
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread

_PIECE = 32 << 10


@dataclass
class Link:
    """A proxy before a registry, which passes bytes as they come.

    Attributes:
        host: The registry's HOST:PORT.
        url: Where the proxy listens.
        status: What it answers itself to requests for blobs; None: it passes them.
        rate: Bytes in a second of each response; 0: any number.
        stall_at: After how many bytes of a blob it sends nothing until ``flow`` is set; None: never.
        delay: Seconds that all other answers take, unless ``flow`` is set before.
        cut_at: After how many bytes of a blob it breaks off, once.
        damaged: Whether the first byte of blobs is another one.
        transfers: How often each path of a blob was requested.
        sent: How many bytes of blobs it has passed.
    """

    host: str
    url: str = ""
    status: int | None = None
    rate: int = 0
    stall_at: int | None = None
    delay: float = 0
    cut_at: int | None = None
    damaged: bool = False
    flow: Event = field(default_factory=Event)
    transfers: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    _lock: Lock = field(default_factory=Lock)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request as the registry does, but for what is wrong."""
        is_blob = "/blobs/" in handler.path
        if is_blob and self.status is not None:
            handler.send_response(self.status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if self.delay and not (is_blob and handler.command == "GET"):
            self.flow.wait(self.delay)
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "host"}
        with closing(http.client.HTTPConnection(self.host, timeout=20)) as connection:
            connection.request(handler.command, handler.path, headers=headers)
            with connection.getresponse() as response:
                self._pass(handler, response, is_blob=is_blob)

    def _pass(
        self, handler: BaseHTTPRequestHandler, response: http.client.HTTPResponse, *, is_blob: bool
    ) -> None:
        handler.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "date", "server"):
                handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET" and is_blob:
            self._pass_blob(handler, response)
        else:
            handler.wfile.write(response.read())

    def _pass_blob(self, handler: BaseHTTPRequestHandler, response: http.client.HTTPResponse) -> None:
        with self._lock:
            self.transfers[handler.path] += 1
        passed = 0
        while piece := response.read(_PIECE):
            if self.cut_at is not None and passed >= self.cut_at:
                self.cut_at, handler.close_connection = None, True
                return
            if self.stall_at is not None and passed >= self.stall_at:
                self.flow.wait(60)
            if self.damaged and not passed:
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            handler.wfile.write(piece)
            passed += len(piece)
            with self._lock:
                self.sent += len(piece)
            if self.rate:
                time.sleep(len(piece) / self.rate)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: the registry may close a connection."""


@contextmanager
def link(host: str) -> Iterator[Link]:
    """Run one before the registry at *host*."""
    own = Link(host)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            own.answer(self)

        do_HEAD = do_GET  # noqa: N815 -- what http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    own.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield own
    finally:
        own.flow.set()
        server.shutdown()
        thread.join()
        server.server_close()

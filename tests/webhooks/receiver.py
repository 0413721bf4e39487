"""A receiver of events that answers as a test says."""

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

SECRET = b"0123456789abcdefghijklmn"


@dataclass
class Received:
    """A request that the receiver has read."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The id of the event."""
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        """The event."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed(self, secret: bytes = SECRET) -> bool:
        """Return whether one of the signatures is by a secret."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        own = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        return f"v1,{own}" in self.headers.get("webhook-signature", "").split()


#: Answers a request; the receiver has what it is handed, if the step calls ``take``.
Step = Callable[["Handler"], None]


@dataclass
class Receiver:
    """A receiver.

    Attributes:
        step: What to do about each request that was read.
        taken: What it has, in order.
        seen: The requests, each a path.
    """

    step: Step
    taken: list[Received] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    url: str = ""
    lock: Lock = field(default_factory=Lock)


class Handler(BaseHTTPRequestHandler):
    """A request."""

    protocol_version = "HTTP/1.1"
    receiver: Receiver
    received: Received

    def do_POST(self) -> None:
        """Read it, and do what the test says."""
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        if len(body) < size:  # its sender was killed
            self.close_connection = True
            return
        self.received = Received({name.lower(): value for name, value in self.headers.items()}, body)
        with self.receiver.lock:
            self.receiver.seen.append(self.path)
        try:
            self.receiver.step(self)
        except OSError:  # its client is gone
            self.close_connection = True

    def take(self) -> None:
        """Have what was sent."""
        with self.receiver.lock:
            self.receiver.taken.append(self.received)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: senders are killed."""


def accept(handler: Handler) -> None:
    """Take what was sent, and say so."""
    handler.take()
    handler.answer(204)


@contextmanager
def receiving(step: Step = accept, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver for the block."""
    own = Receiver(step)
    server = _Server(("127.0.0.1", 0), type("Own", (Handler,), {"receiver": own}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    own.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/hook"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield own
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""Servers for tests: one that answers as a test says, and a proxy before a registry."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock, Thread

#: Does something about a request.
Step = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Hostile:
    """A registry that answers as a test says.

    Attributes:
        answers: What to do for each path, or method and path, the first time, the second, and so on; the last
            for ever.
        seen: Requests: path, and the value of Authorization.
    """

    answers: dict[str, list[Step]] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def said(self, path: str) -> list[str | None]:
        """Return what Authorization was for a path, each time."""
        return [authorization for asked, authorization in self.seen if asked == path]


@contextmanager
def hostile() -> Iterator[Hostile]:
    """Run one."""
    told = Hostile()

    def step(handler: BaseHTTPRequestHandler) -> None:
        told.seen.append((handler.path, handler.headers.get("Authorization")))
        _body(handler)
        named = (f"{handler.command} {handler.path}", handler.path)
        steps = next((told.answers[name] for name in named if name in told.answers), [status(404)])
        (steps.pop(0) if len(steps) > 1 else steps[0])(handler)

    with _serving(step) as told.url:
        yield told


@dataclass
class Front:
    """A proxy before a registry, such as an operator's nginx.

    Attributes:
        answer: Returns a status, or what answers, for a request, by its path and Authorization: 0 breaks off,
            None lets it pass, without Authorization if that is Basic.
        delay: Seconds that each request takes.
        seen: Requests that passed: method and path.
        busiest: How many there were at the same time, at most.
    """

    host: str
    answer: Callable[[str, str], int | Step | None] = lambda _path, _said: None
    delay: float = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    busiest: int = 0
    url: str = ""
    _now: int = 0
    _lock: Lock = field(default_factory=Lock)

    def step(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        with self._lock:
            self._now += 1
            self.busiest = max(self.busiest, self._now)
        time.sleep(self.delay)
        said = handler.headers.get("Authorization", "")
        refused = self.answer(handler.path, said)
        if refused == 0:
            handler.close_connection = True
        elif callable(refused):
            refused(handler)
        elif refused is not None:
            status(refused, WWW_Authenticate='Basic realm="ours"')(handler)
        else:
            self.seen.append((handler.command, handler.path))
            self._pass(handler)
        with self._lock:
            self._now -= 1

    def _pass(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "host"}
        if headers.get("Authorization", "").startswith("Basic"):
            del headers["Authorization"]
        with closing(http.client.HTTPConnection(self.host, timeout=20)) as connection:
            connection.request(handler.command, handler.path, _body(handler), headers)
            response = connection.getresponse()
            body = response.read()
        handler.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def front(host: str) -> Iterator[Front]:
    """Run one before the registry at *host*."""
    own = Front(host)
    with _serving(own.step) as own.url:
        yield own


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a delayed request may end after its client, its registry and its test."""


@contextmanager
def _serving(step: Step) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            step(self)

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 -- what http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in handler.headers.get("Transfer-Encoding", ""):
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(handler.rfile.readline(), 16):
        chunks.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(chunks)


def status(code: int, body: bytes = b"", **headers: str) -> Step:
    """Answer with a status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def cut(body: bytes, at: int) -> Step:
    """Promise the whole body, and break off."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        status(200, body[:at], Content_Length=str(len(body)))(handler)
        handler.wfile.flush()
        handler.close_connection = True

    return answer


def ranged(body: bytes, most: int | None = None, shift: int = 0) -> Step:
    """Answer a range request; perhaps break off after some bytes, or start at another offset."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        first = shift + int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        rest, end = body[first:], len(body)
        headers = {"Content_Length": str(len(rest)), "Content_Range": f"bytes {first}-{end - 1}/{end}"}
        status(206, rest[:most], **headers)(handler)
        if most is not None:
            handler.wfile.flush()
            handler.close_connection = True

    return answer


def asking(challenge: str) -> Step:
    """Ask who it is."""
    return status(401, WWW_Authenticate=challenge)


def granting(challenge: str, code: int, **headers: str) -> Step:
    """Answer with a challenge until a request has a token."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        known = handler.headers.get("Authorization", "").startswith("Bearer ")
        (status(code, **headers) if known else asking(challenge))(handler)

    return answer


def issuing(life: int) -> Step:
    """Give tokens, each another."""
    numbers = count(1)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        told = {"token": f"t{next(numbers)}", "expires_in": life}
        status(200, json.dumps(told).encode())(handler)

    return answer

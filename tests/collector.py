"""A collector of OpenTelemetry, as far as it takes spans over OTLP/HTTP in protobuf, for tests."""

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Seen(NamedTuple):
    """A span that was received.

    Attributes:
        resource: The attributes of the process that sent it.
        failed: Whether its status is that of an error.
    """

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    failed: bool
    began: int
    ended: int


class Collector:
    """What was received.

    Attributes:
        spans: All of them.
        raw: All bytes, which may contain what must not be sent.
        stalling: While it is set, nothing is answered.
    """

    def __init__(self) -> None:
        """Begin without spans."""
        self.spans: list[Seen] = []
        self.raw = b""
        self.stalling = Event()
        self.headers: dict[str, str] = {}

    def take(self, body: bytes) -> None:
        """Read a request."""
        self.raw += body
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(of_process.resource.attributes)
            for scope in of_process.scope_spans:
                self.spans += [_seen(span, resource) for span in scope.spans]

    def named(self, name: str) -> list[Seen]:
        """Return the spans of a name."""
        return [each for each in [*self.spans] if each.name == name]

    def below(self, span: Seen) -> list[Seen]:
        """Return the spans that are parts of another one, and parts of these."""
        parts = [each for each in [*self.spans] if each.trace == span.trace and each.parent == span.id]
        return parts + [inner for each in parts for inner in self.below(each)]


def _seen(span: Any, resource: Mapping[str, Any]) -> Seen:
    return Seen(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _attributes(span.attributes),
        resource,
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """Run a collector on a free port for the block; yield it, and its URL."""
    collector, ending = Collector(), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            while collector.stalling.is_set() and not ending.wait(0.05):
                pass
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.headers = dict(self.headers)
            collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        ending.set()
        server.shutdown()
        server.server_close()
        thread.join()

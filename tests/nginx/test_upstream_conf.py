"""upstream.conf with several instances, one of which fails in the middle of requests."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from threading import Event, Thread

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.nginx.conftest import Front
from tests.nginx.site import nginx_site
from tests.protocol.clients.v1 import session
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire

pytestmark = pytest.mark.client

UPLOADS = "/v2/team/passed/blobs/uploads/"
IMAGE = builders.image(builders.layer({"a": b"1"}))


class Failing:
    """An instance that answers, until it fails: then it takes a request, and ends without an answer."""

    def __init__(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.fails, self.taken, self.failed = Event(), 0, 0

    def run(self) -> None:
        """Serve until it is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    client.recv(65536)
                    self.taken += 1
                    if self.fails.is_set():
                        self.failed += 1
                    else:
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def failing() -> Iterator[Failing]:
    """Run such an instance for the block."""
    made = Failing()
    thread = Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()


def start(host: str) -> str:
    """Begin an upload; return its path."""
    return Wire(host).send("POST", UPLOADS, (), b"").headers["location"]


def manifest(host: str) -> tuple[str, str, dict[str, str], bytes, int]:
    """Return the push of a manifest whose blobs are there."""
    for digest, blob in IMAGE.blobs.items():
        V2Client(host).push_blob("team/passed", str(digest), blob)
    headers = {"Content-Type": IMAGE.media_type}
    return "PUT", "/v2/team/passed/manifests/1", headers, IMAGE.manifest, 201


def json(host: str) -> tuple[str, str, dict[str, str], bytes, int]:
    """Return the first request of a push of a V1 image."""
    (image,) = builders.v1_chain(builders.layer({"a": b"1"}))
    return "PUT", f"/v1/images/{image.id}/json", session(Wire(host), "team/passed"), image.json, 200


#: What is sent, given an instance that works: method, path, headers, body, and the status of the answer.
REQUESTS = {
    "read": lambda _: ("GET", "/v2/_catalog", {}, None, 200),
    "start": lambda _: ("POST", UPLOADS, {}, b"", 202),
    "whole": lambda _: ("POST", f"{UPLOADS}?digest={Digest.of(b'whole')}", {}, b"whole", 201),
    "append": lambda host: ("PATCH", start(host), {}, b"appended", 202),
    "end": lambda host: ("PUT", f"{start(host)}?digest={Digest.of(b'ended')}", {}, b"ended", 201),
    "cancel": lambda host: ("DELETE", start(host), {}, None, 204),
    "manifest": manifest,
    "v1 repository": lambda _: ("PUT", "/v1/repositories/team/passed/", {}, b"[]", 200),
    "v1 json": json,
}


def send(host: str, method: str, path: str, headers: dict[str, str], body: bytes | None) -> int:
    """Send a request whose body comes with its head, as nginx cannot repeat others; return the status."""
    named = {"Host": host, "Content-Length": str(len(body or b"")), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
    address, _, port = host.partition(":")
    with socket.create_connection((address, int(port)), 20) as client:
        client.sendall("\r\n".join(lines).encode() + (body or b""))
        response = HTTPResponse(client, method=method)
        response.begin()
        return response.status


@pytest.mark.parametrize("request_", REQUESTS)
def test_another_instance_answers(front: Front, certificate: Path, tmp_path: Path, request_: str) -> None:
    """Whatever has been sent to one that failed, of both APIs; the client does not notice."""
    method, path, headers, body, status = REQUESTS[request_](front.direct)
    with failing() as broken, ExitStack() as stack:
        both = f"{broken.host}; server {front.direct}"
        site = stack.enter_context(nginx_site("dualreg.conf", tmp_path / "x", certificate, both, front.data))
        taken = broken.taken
        while broken.taken == taken:  # the turn before that of the other one
            Wire(site.plain).send("GET", "/_status")
        Wire(site.plain).send("GET", "/_status")
        broken.fails.set()
        assert (send(site.plain, method, path, headers, body), broken.failed) == (status, 1)

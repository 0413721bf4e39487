"""What the server refuses itself, before a request reaches the application, is in the dialect of its path."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.programs import Serving, dualreg_process
from tests.test_silence import connect, head

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that waits a second for clients, and shows a notice to those of V2."""
    data = tmp_path_factory.mktemp("refusals") / "data"
    with dualreg_process(data, workers=1, threads=4, client_timeout="1s", notice="moving") as serving:
        yield serving
        assert "Traceback" not in serving.log.read_text()


def ask(host: str, *sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send what may be no request; return the last answer's status, headers and body, up to the end."""
    with closing(connect(host)) as connection:
        for data in sent[:-1]:
            connection.sendall(data)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.sendall(sent[-1])
        return read_answer(connection)


def read_answer(connection: socket.socket, begun: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer on a connection that ends with it.

    Args:
        begun: What was received of it before.
    """
    received = bytearray(begun)
    while data := connection.recv(1 << 16):
        received += data
    top, _, body = bytes(received).partition(b"\r\n\r\n")
    line, *lines = top.decode().split("\r\n")
    assert len({each.partition(":")[0].lower() for each in lines}) == len(lines)
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    return int(line.split()[1]), headers, body


def many_headers(path: str) -> bytes:
    """Return a request with more header lines than the server takes."""
    return head("GET", path, *(f"X-{number}: 1" for number in range(200)))


#: What is wrong with a request for a path, and the status that says so.
WRONG = {
    "a header over 64 KiB": (
        lambda path: head("GET", path, f"Authorization: Bearer {'x' * (70 << 10)}"),
        431,
    ),
    "headers without an end": (lambda path: head("GET", path, "X: " + "x" * (300 << 10))[:-4], 431),
    "too many headers": (many_headers, 431),
    "no header": (lambda path: head("PUT", path, "no header"), 400),
    "two lengths": (lambda path: head("PUT", path, "Content-Length: 1", "Content-Length: 2") + b"1", 400),
    "an unknown coding": (lambda path: head("PATCH", path, "Transfer-Encoding: brotli"), 501),
    "an unknown expectation": (lambda path: head("PUT", path, "Expect: a miracle"), 417),
    "an unknown version": (lambda path: head("GET", path).replace(b"1.1", b"7.0"), 400),
    "a space in the path": (lambda path: head("GET", f"{path}/a b"), 400),
    "a long path": (lambda path: head("GET", path + "x" * 9000), 414),
    "a path without an end": (lambda path: b"GET " + path.encode() + b"x" * (300 << 10), 414),
    "a whole URL": (lambda path: head("GET", f"http://registry{path}", "no header"), 400),
    "half a head": (lambda path: head("GET", path)[:-2], 408),
    "half a small body": (lambda path: head("PUT", path, "Content-Length: 9") + b"{", 408),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "path", ["/v2/t/manifests/1", "/v1/repositories/t/images", "/v2/", "/v20/", "/_ping"]
)
def test_refusals_are_in_the_dialect_of_the_path(serving: Serving, wrong: str, path: str) -> None:
    """V2 gets its error document, V1 its own, and what is neither a line of text."""
    make, expected = WRONG[wrong]
    status, headers, body = ask(serving.host, make(path))
    assert (status, headers["connection"], headers["x-content-type-options"]) == (
        expected,
        "close",
        "nosniff",
    )
    assert int(headers["content-length"]) == len(body)
    if path.startswith("/v2/"):
        (error,) = json.loads(body)["errors"]
        assert error["code"] in ("UNSUPPORTED", "UNKNOWN")
        assert error["message"]
        assert headers["docker-distribution-api-version"] == "registry/2.0"
        assert headers["warning"] == '299 - "moving"'
    elif path.startswith("/v1/"):
        assert json.loads(body)["error"]
        assert headers["x-docker-registry-version"] == "0.9.1"
    else:
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert body.count(b"\n") == 1


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"GARBAGE\r\n\r\n", b"GET\r\n\r\n"])
def test_what_names_no_path_gets_a_line_of_text(serving: Serving, sent: bytes) -> None:
    """Whatever it was."""
    status, headers, body = ask(serving.host, sent)
    assert (status, headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert body.count(b"\n") == 1


def test_a_refused_head_request_gets_no_body(serving: Serving) -> None:
    """Only its length."""
    status, headers, body = ask(serving.host, head("HEAD", "/v2/t/manifests/1", "no header"))
    assert (status, body) == (400, b"")
    assert int(headers["content-length"]) > 0


def test_each_request_of_a_connection_has_its_own_dialect(serving: Serving) -> None:
    """The path is that of the request that is refused, not of one before it."""
    status, _, body = ask(serving.host, head("GET", "/v1/_ping"), head("GET", "/v2/", "no header"))
    assert (status, "errors" in json.loads(body)) == (400, True)

"""One document of a server: within a time and a size, from the address that was given alone."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from dualreg.remote.endpoint import RemoteError, endpoint_of, is_loopback, redact
from dualreg.remote.reach import Reach
from dualreg.remote.transport import fetch
from tests.migrate.fronts import Hostile, cut, hostile, status

LIMIT = 1000


@pytest.fixture
def server() -> Iterator[Hostile]:
    """A server that answers as a test says."""
    with hostile() as own:
        yield own


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def get(server: Hostile, path: str, timeout: float = 10) -> bytes:
    """Fetch a path of the server."""
    return fetch_from(f"{server.url}{path}", timeout)


def fetch_from(url: str, timeout: float = 5) -> bytes:
    """Fetch a URL that the operator named."""
    return fetch(url, Reach(endpoint_of(url)), size_limit=LIMIT, timeout=timeout)


def test_a_document(server: Hostile) -> None:
    """The bytes as they are sent, with no credentials."""
    server.answers["/keys?a=1"] = [status(200, b"x" * LIMIT, Content_Encoding="gzip")]
    assert get(server, "/keys?a=1") == b"x" * LIMIT
    assert server.seen == [("/keys?a=1", None)]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_errors(server: Hostile, code: int) -> None:
    """Wherever they lead."""
    server.answers |= {"/keys": [status(code, Location="/other")], "/other": [status(200, b"{}")]}
    with pytest.raises(RemoteError, match=f"/keys: {code}"):
        get(server, "/keys")
    assert [path for path, _ in server.seen] == ["/keys"]


def test_nothing_is_repeated(server: Hostile) -> None:
    """Not when the server is busy, nor when the body is cut short."""
    server.answers |= {"/busy": [status(503, Retry_After="1")], "/cut": [cut(b"{}", 1)]}
    for path, reason in (("/busy", "503"), ("/cut", "IncompleteRead|ProtocolError")):
        with pytest.raises(RemoteError, match=reason):
            get(server, path)
    assert len(server.seen) == 2


@pytest.mark.parametrize("declared", [True, False])
def test_long_documents_are_errors(server: Hostile, declared: bool) -> None:  # noqa: FBT001 -- parametrised
    """By one byte, or without an end."""

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * LIMIT)
        except OSError:
            pass

    server.answers["/keys"] = [status(200, b"x" * (LIMIT + 1)) if declared else endless]
    with pytest.raises(RemoteError, match=f"exceeds {LIMIT} bytes"):
        get(server, "/keys")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_slow_drip_is_an_error(server: Hostile, start: bytes) -> None:
    """Status line, headers or body that arrive byte by byte, each in time, exceed the time for all."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        try:
            handler.wfile.write(start)
            for _ in range(200):
                handler.wfile.write(b"H")
                time.sleep(0.05)
        except OSError:
            pass

    server.answers["/keys"] = [drip]
    began = time.monotonic()
    with pytest.raises(RemoteError, match=r"within 0\.5 s"):
        get(server, "/keys", timeout=0.5)
    assert time.monotonic() - began < 3


def test_silence_is_an_error(server: Hostile) -> None:
    """A server that accepts a connection and sends nothing."""
    server.answers["/keys"] = [lambda _: time.sleep(1)]
    with pytest.raises(RemoteError, match="/keys"):
        get(server, "/keys", timeout=0.3)


def test_proxies_of_the_environment(server: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are used, but for the hosts that ``no_proxy`` names."""
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://me:pw@"))
    server.answers |= {"http://keys.example/x": [status(200, b"proxied")], "/x": [status(200, b"direct")]}
    assert fetch_from("http://keys.example/x") == b"proxied"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(server, "/x") == b"direct"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://", "no host"),
        ("ftp://host/", "not http"),
        ("http://h\\x/", "backslash"),
        ("http://[::1", "invalid"),
    ],
)
def test_invalid_urls(url: str, reason: str) -> None:
    """The error says what is wrong with the URL."""
    with pytest.raises(RemoteError, match=reason):
        fetch_from(url)


def test_what_messages_show_of_urls() -> None:
    """No secret."""
    assert redact("https://me:pw@host:1/path?token=x#y") == "https://host:1/path"


def test_loopback() -> None:
    """By name and by address."""
    assert [is_loopback(host) for host in ("localhost", "127.0.0.9", "::1", "[::1]")] == [True] * 4
    assert [is_loopback(host) for host in ("", "localhost.example", "0.0.0.0", "::")] == [False] * 4

"""Plain requests: what is read without gunicorn's parser is what gunicorn reads."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.errors import InvalidHeader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import IterUnreader
from gunicorn.http.wsgi import create
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dualreg.cli import plain_requests
from dualreg.cli.connection import Arriving
from dualreg.cli.exchange import common_environment, environment
from dualreg.cli.parsing import Parser
from dualreg.cli.plain_requests import Head
from dualreg.settings import Settings
from tests.soak import short_or_long
from tests.test_fast_path import configured

CLIENT, SERVER = ("192.0.2.1", 40_000), ("192.0.2.2", 5000)
#: What gunicorn adds that no answer and no log line depends on.
ADDED = {"SERVER_NAME", "SERVER_PORT", "SERVER_SOFTWARE", "SCRIPT_NAME"}
LINE = "GET /v2/team/app/manifests/latest HTTP/1.1"
COMMON = ["Host: registry.example:5000", "User-Agent: docker/28.0.1 go/go1.23.6 (linux)", "Accept: */*"]


CONFIG = configured(Settings())


def by_gunicorn(head: bytes) -> tuple[Request, dict[str, Any]]:
    """Return a request as gunicorn reads it, and the environment of the application."""
    request = Request(CONFIG, IterUnreader(iter([head])), CLIENT)
    return request, create(request, None, CLIENT, SERVER, CONFIG)[1]


def plain(head: bytes) -> Head | None:
    """Return what a head says, if it has arrived whole and is plain."""
    arriving = Arriving()
    arriving.add(head)
    return arriving.plain


def at_once(head: bytes) -> dict[str, str] | None:
    """Return the environment of a request that may need no thread; None of others."""
    found = plain(head)
    return found and plain_requests.read(found, plain_requests.peer_of(CLIENT))


def require_same(head: bytes) -> bool:
    """Compare what both read; return whether it is a plain request."""
    environ = at_once(head)
    if environ is None:
        return False
    request, expected = by_gunicorn(head)
    assert environ == {
        name: value
        for name, value in expected.items()
        if name not in ADDED and not name.startswith(("wsgi.", "gunicorn."))
    }
    assert not request.should_close()
    assert request.unreader.take_buffered() == head.partition(plain_requests.END)[2]
    assert request.body.read() == b""
    names = {name for name, _ in request.headers}
    assert {name for name, _ in plain_requests.headers_of(environ)} == names
    return True


def outcome(read: Callable[[bytes], tuple[Request, dict[str, Any]]], sent: bytes) -> tuple[Any, ...]:
    """Return all that is made of what a client sent, when *read* reads it; or how that fails."""
    try:
        request, environ = read(sent)
        body = request.body.read()
    except Exception as error:  # noqa: BLE001 -- gunicorn's share no other class
        return type(error), str(error)
    shown = {name: value for name, value in environ.items() if isinstance(value, str | bool | tuple)}
    names = sorted({name for name, _ in request.headers})
    left, is_last = request.unreader.take_buffered(), request.should_close()
    return shown, names, body, request.trailers, left, is_last


def in_a_thread(sent: bytes) -> tuple[Request, dict[str, Any]]:
    """Return a request as a thread of ours gets it, and the environment of the application."""
    arriving, parser = Arriving(), Parser(CONFIG, iter([]), CLIENT)
    arriving.add(sent)
    parser.give(arriving.plain, arriving.rest(after_head=arriving.plain is not None))
    request = next(parser)
    if arriving.plain is None:
        return request, created(request)
    common = common_environment(CONFIG, None, CLIENT, SERVER)
    connection = SimpleNamespace(server=SERVER, common=common)
    return request, environment(request, connection)


def in_a_thread_of_gunicorn(sent: bytes) -> tuple[Request, dict[str, Any]]:
    """Return a request as a thread of gunicorn's worker gets it, and the environment of the application."""
    request = next(RequestParser(CONFIG, iter([sent]), CLIENT))
    return request, created(request)


def created(request: Request) -> dict[str, Any]:
    """Return the environment that gunicorn makes."""
    client = SimpleNamespace(send=lambda _: None)
    environ: dict[str, Any] = create(request, client, CLIENT, SERVER, CONFIG)[1]
    return environ | {"wsgi.multithread": True}  # as its worker does


def head_of(*lines: str, first: str = LINE) -> bytes:
    """Return a head."""
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


PLAIN = [
    head_of(*COMMON),
    head_of(*COMMON, first=LINE.replace("GET", "HEAD")),
    head_of(first="GET /v2/ HTTP/1.1"),
    head_of("accept: a/b", "ACCEPT-ENCODING: gzip", "Accept:c/d; q=0.1, e", "Accept: ", *COMMON[:1]),
    head_of("Range:  bytes=0-1, 4-  ", *COMMON, first="GET /v2/a/blobs/sha256:0a?ns=docker.io&n=1 HTTP/1.1"),
    head_of("Authorization: Basic YWxpY2U6eA==", "Cookie: a=b; c=d", "Connection: Keep-Alive", *COMMON),
    head_of("X-Forwarded-For: 192.0.2.3, 192.0.2.4", "X-Real-IP: 192.0.2.3", first="GET //v2/ HTTP/1.1"),
    head_of('If-None-Match: "sha256:a", W/"b"', "Traceparent: 00-0-0-00", first="GET /v2/../a? HTTP/1.1"),
]

#: What follows a head: nothing, bodies, a part of one, or the next request.
FOLLOWS = [b"", b"12345", b"5\r\n12345\r\n0\r\n\r\n", b"5\r\n1", PLAIN[0]]
PUSHES = [
    head_of(
        *COMMON, "Content-Length: 0", first="POST /v2/a/blobs/uploads/?mount=sha256%3A0a&from=b HTTP/1.1"
    ),
    head_of(
        *COMMON,
        "Content-Type: application/octet-stream",
        "Content-Range: 0-4",
        "Content-Length: 5",
        "Authorization: Bearer a.b.c",
        first="PATCH /v2/a/blobs/uploads/0a-1?_state=eyJ_-x%3D HTTP/1.1",
    ),
    head_of(
        *COMMON, "Transfer-Encoding: chunked", first="PATCH /v2/a/blobs/uploads/0a-1?_state=eyJ HTTP/1.1"
    ),
    head_of(*COMMON, "Content-Length: 5", "Content-Type: a/b+json", first="PUT /v2/a/manifests/1 HTTP/1.1"),
    head_of("Content-Length: 0", "X-Docker-Checksum: sha256:0a", first="PUT /v1/images/0a/checksum HTTP/1.1"),
    head_of(*COMMON, "Connection: close", first="DELETE /v2/a/manifests/sha256:0a HTTP/1.1"),
]

OTHERS = {
    "another method": head_of(*COMMON, first=LINE.replace("GET", "PUT")),
    "small letters": head_of(*COMMON, first=LINE.replace("GET", "get")),
    "another version": head_of(*COMMON, first=LINE.replace("1.1", "1.0")),
    "an escape": head_of(*COMMON, first=LINE.replace("team", "te%61m")),
    "a fragment": head_of(*COMMON, first=LINE.replace("latest", "latest#1")),
    "a whole URL": head_of(*COMMON, first=LINE.replace("/v2", "http://registry/v2", 1)),
    "two spaces": head_of(*COMMON, first=LINE.replace(" HTTP", "  HTTP")),
    "a length": head_of(*COMMON, "Content-Length: 0"),
    "chunks": head_of(*COMMON, "Transfer-Encoding: chunked"),
    "an expectation": head_of(*COMMON, "Expect: 100-continue"),
    "another protocol": head_of(*COMMON, "Upgrade: h2c"),
    "a last request": head_of(*COMMON, "Connection: close"),
    "several words about the connection": head_of(*COMMON, "Connection: keep-alive, upgrade"),
    "two hosts": head_of(*COMMON, COMMON[0]),
    "two ranges": head_of(*COMMON, "Range: bytes=0-1", "range: bytes=2-3"),
    "an unknown header": head_of(*COMMON, "X-Unknown: 1"),
    "an underscore": head_of(*COMMON, "X_Forwarded_For: 192.0.2.3"),
    "a space before the colon": head_of(*COMMON, "Range : bytes=0-1"),
    "a line that goes on": head_of(*COMMON, "Range: bytes=0-1", " 2-3"),
    "a tab": head_of(*COMMON, "Range:\tbytes=0-1"),
    "a control character": head_of(*COMMON, "Range: bytes\0=0-1"),
    "a bare line feed": head_of(*COMMON, "Range: bytes=0-1\nX-Unknown: 1"),
    "a bare carriage return": head_of(*COMMON, "Range: bytes=0-1\rX-Unknown: 1"),
    "a letter beyond ASCII": head_of(*COMMON, "Referer: caf\xe9"),
    "an empty line before": b"\r\n" + head_of(*COMMON),
    "half a head": head_of(*COMMON)[:-2],
    "no colon": head_of(*COMMON, "Range"),
    "a long head": head_of(*COMMON, "Authorization: Bearer " + "x" * plain_requests.HEAD_LIMIT),
    "many lines": head_of(*COMMON, *["Accept: a/b"] * plain_requests.LINES_LIMIT),
}


@pytest.mark.parametrize("head", PLAIN)
def test_what_clients_send_is_plain(head: bytes) -> None:
    """It means the same to gunicorn."""
    assert require_same(head)


@pytest.mark.parametrize("follows", FOLLOWS)
@pytest.mark.parametrize("head", PUSHES)
def test_what_clients_push_with_is_plain(head: bytes, follows: bytes) -> None:
    """It is read without gunicorn's parser, and means the same to it, as does whatever follows."""
    assert plain(head)
    assert at_once(head) is None
    assert outcome(in_a_thread, head + follows) == outcome(in_a_thread_of_gunicorn, head + follows)


@pytest.mark.parametrize("follows", FOLLOWS)
@pytest.mark.parametrize(
    "lines", [["Content-Length: 5"], ["Content-Length: "], ["Transfer-Encoding: chunked"]]
)
def test_several_words_about_the_end_of_a_body_are_refused(lines: list[str], follows: bytes) -> None:
    """Beside one of chunks: a proxy before the registry could take another end for that of the request."""
    push = head_of(
        *COMMON, "Transfer-Encoding: chunked", *lines, first="PATCH /v2/a/blobs/uploads/0a HTTP/1.1"
    )
    assert plain(push) is None
    kind, _ = outcome(in_a_thread, push + follows)
    assert kind is InvalidHeader


@pytest.mark.parametrize("kind", OTHERS)
def test_everything_else_is_left_to_gunicorn(kind: str) -> None:
    """Whether gunicorn takes it or refuses it."""
    assert at_once(OTHERS[kind]) is None


NAMES = [*plain_requests._HEADERS, "host", "ACCEPT", "X-A", "Expect", "TE"]
NAME = st.sampled_from(NAMES) | st.sampled_from([*plain_requests._BODY_HEADERS, "Content-Length"])
VALUE = st.sampled_from(
    ["a", "", " a ", "keep-alive", "close", "0", "5", "chunked", "a, b", "\t", "a:b", "a\n"]
)
FIELD = st.builds("{}{}{}".format, NAME, st.sampled_from([": ", ":", " :", ":\t", ""]), VALUE)
TARGET = st.text("ab/:.~_-+@?&=%#,;* \\", max_size=12).map("/{}".format) | st.just("/v2/")
FIRST = st.builds(
    "{} {} {}".format,
    st.sampled_from(["GET", "HEAD", "PUT", "PATCH", "Get"]),
    TARGET,
    st.sampled_from(["HTTP/1.1", "HTTP/1.1 ", "HTTP/1.0", "HTTP/2.0"]),
)
HEAD = st.builds(lambda first, fields: head_of(*fields, first=first), FIRST, st.lists(FIELD, max_size=4))


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """Draw a head of the parts that heads are made of, or a plain one with a few bytes exchanged."""
    if draw(st.booleans()):
        return draw(HEAD)
    head = bytearray(draw(st.sampled_from(PLAIN + PUSHES)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(head)))
        head[at : at + draw(st.integers(0, 2))] = draw(
            st.text("\r\n\0 \t:,/?#%_aZ\x7f\xff", max_size=3)
        ).encode("latin-1")
    return bytes(head)


@pytest.mark.slow
@settings(max_examples=short_or_long(1_000, 100_000), deadline=None)
@given(nearly_plain())
def test_a_plain_request_is_what_gunicorn_reads(head: bytes) -> None:
    """Whatever is taken for one: the same environment, no body, nothing left, and the connection goes on."""
    event(f"plain: {require_same(head)}")


@pytest.mark.slow
@settings(max_examples=short_or_long(1_000, 100_000), deadline=None)
@given(nearly_plain(), st.sampled_from(FOLLOWS))
def test_a_request_of_a_thread_is_what_gunicorn_reads(head: bytes, follows: bytes) -> None:
    """Whatever is sent: the same environment, body or error, and the same is left for the next request."""
    event(f"plain: {plain(head + follows) is not None}")
    assert outcome(in_a_thread, head + follows) == outcome(in_a_thread_of_gunicorn, head + follows)

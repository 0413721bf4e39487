"""The client of remote registries: broken connections, busy servers, credentials, redirects, bad answers."""

import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from dualreg.remote import challenge as challenges
from dualreg.remote import transport
from dualreg.remote.challenge import pulling, pushing
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError
from dualreg.remote.transport import PERSISTENT
from dualreg.storage.base import read_chunks
from tests.migrate.fronts import Hostile, asking, cut, granting, hostile, issuing, ranged, status
from tests.migrate.trees import LAYERS

SECRET = "not for everybody"


def read(client: Client, path: str) -> bytes:
    """Return the whole stream."""
    with client.stream(path) as reader:
        return b"".join(read_chunks(reader))


def elsewhere(server: Hostile) -> str:
    """Return the server's URL, by another name of the host."""
    return server.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def server() -> Iterator[Hostile]:
    """A registry that answers as a test says."""
    with hostile() as own:
        yield own


def test_bodies_that_are_cut_short(server: Hostile) -> None:
    """Downloads are resumed as long as there is progress; a part is never taken for the whole."""
    body = LAYERS["a"] * 120_000
    piece = len(body) // 9
    server.answers["/whole"] = [cut(body, piece), *[ranged(body, piece)] * 7, ranged(body)]
    server.answers["/again"] = [cut(body, piece), status(200, body)]  # it knows no ranges
    server.answers["/never"] = [cut(body, piece), status(200, body[: piece - 1])]
    server.answers["/aside"] = [cut(body, piece), ranged(body, shift=-1)]
    assert piece > 1 << 20
    assert read(Client(server.url), "/whole") == body
    assert read(Client(server.url), "/again") == body
    for path in ("/never", "/aside"):
        with pytest.raises(RemoteError, match="cut short"):
            read(Client(server.url), path)
    with pytest.raises(RemoteError, match="404"):
        read(Client(server.url), "/absent")


def test_answers_that_are_cut_short(server: Hostile) -> None:
    """Requests for whole answers are repeated, but not without end."""
    server.answers["/x"] = [cut(b'{"a": 1}', 4), status(200, b'{"a": 1}')]
    server.answers["/never"] = [cut(b'{"a": 1}', 4)]
    assert Client(server.url).request("GET", "/x").object() == {"a": 1}
    with pytest.raises(RemoteError, match="never"):
        Client(server.url).request("GET", "/never")
    assert len(server.said("/never")) == 3


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", None), ("PUT", b"manifest")])
def test_busy_servers_are_asked_again(server: Hostile, method: str, body: bytes | None) -> None:
    """Any request that can be sent again is repeated after the time that the server states."""
    server.answers["/x"] = [status(503), status(429, Retry_After="1"), status(200, b"{}")]
    assert Client(server.url).request(method, "/x", body=body).json() == {}
    assert len(server.seen) == 3


def test_who_is_locked_out_hears_so_at_once(server: Hostile) -> None:
    """Who would have to wait for long does not; and a refused login is not tried again, as that counts."""
    server.answers["/x"] = [status(429, Retry_After="900"), status(200, b"{}")]
    assert Client(server.url).request("GET", "/x").status == 429
    challenge = f'Bearer realm="{server.url}/token",service="s"'
    for refusal in (status(401), status(429, Retry_After="900")):
        server.answers |= {"/y": [status(401, WWW_Authenticate=challenge)], "/token?service=s": [refusal]}
        client, before = Client(server.url, "me", "secret"), len(server.said("/token?service=s"))
        for _ in range(3):
            with pytest.raises(RemoteError, match="rejected the user name or password"):
                client.request("GET", "/y")
        assert len(server.said("/token?service=s")) == before + 1


def test_redirects_end(server: Hostile) -> None:
    """Five are followed; and none is by what cannot be sent again."""
    for number in range(6):
        server.answers[f"/{number}"] = [status(302, Location=f"/{number + 1}")]
    server.answers["/6"] = [status(200, b"there")]
    assert Client(server.url).request("GET", "/1").body == b"there"
    with pytest.raises(RemoteError, match="too many redirects"):
        Client(server.url).request("GET", "/0")
    assert Client(server.url).request("PUT", "/1", body=iter([b"x"])).status == 302


def test_tokens_of_many_repositories(server: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last are kept: whoever asks a proxy may name any number."""
    monkeypatch.setattr(challenges, "_KNOWN", 2)
    server.answers["/x"] = [granting(f'Bearer realm="{server.url}/token",service="s"', 200)]
    for name in "abc":
        path = f"/token?service=s&scope=repository%3A{name}%3Apull"
        server.answers[path] = [issuing(300)]
    client = Client(server.url)
    for name in "abcbca":
        assert client.request("GET", "/x", scope=pulling(name)).status == 200
    asked = [path.partition("repository%3A")[2][0] for path, _ in server.seen if path.startswith("/token")]
    assert asked == ["a", "b", "c", "a"]


@pytest.mark.parametrize("challenge", ["", "Basic realm=x", "Bearer realm={other}/token"])
def test_who_is_redirected_to_learns_nothing(server: Hostile, challenge: str) -> None:
    """The target of a redirect gets no credentials of the registry, whatever it asks for."""
    with hostile() as other:
        asked = challenge.format(other=elsewhere(other))
        other.answers["/blob"] = [asking(asked) if asked else status(200, b"bytes")]
        other.answers["/token?service="] = [issuing(300)]
        place = status(307, Location=f"{elsewhere(other)}/blob")
        server.answers["/blob"] = [asking("Basic realm=x"), place]
        client = Client(server.url, "me", SECRET, redirect_hosts=("localhost",))
        assert client.request("GET", "/blob").status == (401 if asked else 200)
        assert other.seen == [("/blob", None)]
        assert server.seen[1][1]
        assert SECRET not in repr(client)


@pytest.mark.parametrize("location", ["http://{other}\\@{host}/blob", "http://{host}\\@{other}/blob"])
def test_urls_that_parsers_disagree_about_are_not_followed(server: Hostile, location: str) -> None:
    """Credentials go where a URL leads by the parser that connects."""
    with hostile() as other:
        other.answers["/@" + server.url.removeprefix("http://") + "/blob"] = [status(200)]
        hosts = {
            "other": elsewhere(other).removeprefix("http://"),
            "host": server.url.removeprefix("http://"),
        }
        server.answers["/blob"] = [asking("Basic realm=x"), status(307, Location=location.format(**hosts))]
        with pytest.raises(RemoteError, match="backslash"):
            Client(server.url, "me", SECRET).request("GET", "/blob")
        assert other.seen == []


def test_another_scheme_is_another_registry(server: Hostile) -> None:
    """A URL of http gets no credentials of the https registry."""
    server.answers["/blob"] = [asking("Basic realm=x")]
    client = Client(server.url.replace("http:", "https:"), "me", SECRET)
    assert client.request("GET", f"{server.url}/blob").status == 401
    client._authenticator._credentials[()] = ("Bearer secret", float("inf"), "")  # type: ignore[attr-defined]  # ChallengeAuthenticator's
    assert client.request("GET", f"{server.url}/blob").status == 401
    assert server.said("/blob") == [None, None]
    with pytest.raises(RemoteError, match="is not https"):
        next(client._authenticator.respond((), f"Bearer realm={server.url}/token", ""))


def test_a_token_server_elsewhere(server: Hostile) -> None:
    """The password is sent to a token server on another host only if the operator names that host."""
    with hostile() as other:
        other.answers["/token?service=s&scope=repository%3Aa%3Apull%2Cpush"] = [issuing(300)]
        challenge = f'Bearer realm="{elsewhere(other)}/token",service="s"'
        server.answers["/x"] = [granting(challenge, 200)]
        for trusted in ((), ("127.0.0.1",), ("host",)):
            client = Client(server.url, "me", SECRET, token_servers=trusted)
            with pytest.raises(RemoteError, match=r"credentials not sent; .* --token-server localhost"):
                client.request("GET", "/x", scope=pushing("a"))
        assert other.seen == []
        server.answers["/x"] = [granting(challenge, 200)]
        client = Client(server.url, "me", SECRET, token_servers=("host", "localhost"))
        assert client.request("GET", "/x", scope=pushing("a")).status == 200
        assert server.said("/x") == [None, None, None, None, "Bearer t1"]
        assert str(other.seen[0][1]).startswith("Basic ")


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token": "a", "expires_in": "b"}'],
)
def test_token_servers_that_give_none(server: Hostile, answer: bytes) -> None:
    """The error is one line, without the password."""
    server.answers["/token?service="] = [status(200, answer)]
    server.answers["/x"] = [asking(f"Bearer realm={server.url}/token")]
    with pytest.raises(RemoteError, match="returned no token") as raised:
        Client(server.url, "me", SECRET).request("GET", "/x")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("named", ["http://[bad", "x://[2J"])
@pytest.mark.parametrize(
    ("code", "header", "value"),
    [
        (302, "Location", "{}"),
        (401, "WWW-Authenticate", 'Bearer realm="{}"'),
        (200, "Link", '<{}>; rel="next"'),
    ],
)
def test_invalid_urls_of_a_server(server: Hostile, named: str, code: int, header: str, value: str) -> None:
    """The error names the server that named them."""
    server.answers["/x"] = [status(code, **{header: value.format(named)})]
    with pytest.raises(RemoteError, match=rf"{server.url}.*invalid URL"):
        assert Client(server.url).request("GET", "/x").next_page


@pytest.mark.parametrize("code", [302, 401, 404, 503])
def test_unwanted_bodies_without_end(server: Hostile, code: int) -> None:
    """Only little is read of the bodies of redirects, challenges and errors, and the request continues."""
    sent = [0]

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(1 << 40))
        handler.send_header("Location", "/next")
        handler.send_header("WWW-Authenticate", "Basic realm=x")
        handler.end_headers()
        with suppress(OSError):
            while sent[0] < 64 << 20:
                sent[0] += handler.wfile.write(bytes(1 << 20))
        handler.close_connection = True

    content = bytes(100)
    server.answers["/blob"] = [endless, status(200, content)]
    server.answers["/next"] = [status(200, content)]
    client = Client(server.url, "me", SECRET)
    if code == 404:
        with pytest.raises(RemoteError, match="404"):
            client.stream("/blob")
    else:
        assert read(client, "/blob") == content
    assert sent[0] < 32 << 20


@pytest.mark.parametrize("code", [200, 302, 404, 503])
def test_slow_bodies(server: Hostile, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte at a time cannot hold a request beyond its deadline."""
    monkeypatch.setattr(transport, "_DISCARD_SECONDS", 0.5)
    effort = PERSISTENT._replace(whole=1)

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Location", "/next")
        handler.end_headers()
        handler.close_connection = True
        with suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b"x")
                time.sleep(0.05)

    server.answers["/x"] = [trickle, status(200, b"whole")]
    server.answers["/next"] = [status(200, b"whole")]
    client, began = Client(server.url, effort=effort), time.monotonic()
    if code in (302, 503):
        assert client.request("GET", "/x").body == b"whole"
    else:
        with pytest.raises(RemoteError, match=r"/x: no complete answer within 1 s"):
            client.request("GET", "/x")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: "])
def test_slow_heads(server: Hostile, start: bytes) -> None:
    """Nor by its status line or headers; such a request is not repeated."""

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        with suppress(OSError):
            handler.wfile.write(start)
            for _ in range(200):
                handler.wfile.write(b"H")
                time.sleep(0.05)

    server.answers["/x"] = [trickle, status(200, b"whole")]
    began = time.monotonic()
    with pytest.raises(RemoteError, match=rf"^GET {server.url}/x: no complete answer within 0\.5 s"):
        Client(server.url, effort=PERSISTENT._replace(whole=0.5)).request("GET", "/x")
    assert time.monotonic() - began < 3

"""HTTP to other registries: what breaks off, what is busy, who is told the password, and what is nonsense."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.sources.v2_remote import V2Remote
from dualreg.migrate.targets.remote import RemoteTarget
from dualreg.remote.challenge import pushing
from dualreg.remote.client import Client
from dualreg.remote.errors import RemoteError
from dualreg.storage.base import read_chunks
from tests.migrate.commands import command
from tests.migrate.fronts import Hostile, cut, hostile, ranged, status
from tests.migrate.trees import LAYERS

SECRET = "not for everybody"


def read(wire: Client, path: str) -> bytes:
    """Read a stream to its end."""
    with wire.stream(path) as reader:
        return b"".join(read_chunks(reader))


def asking(challenge: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Ask who it is."""
    return status(401, WWW_Authenticate=challenge)


def granting(challenge: str, code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Ask who it is until a token comes along."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        known = handler.headers.get("Authorization", "").startswith("Bearer ")
        (status(code, **headers) if known else asking(challenge))(handler)

    return answer


def issuing(life: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """Give tokens, each another."""
    numbers = count(1)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        told = {"token": f"t{next(numbers)}", "expires_in": life}
        status(200, json.dumps(told).encode())(handler)

    return answer


def elsewhere(server: Hostile) -> str:
    """Return the server's URL, by another name of the host."""
    return server.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def server() -> Iterator[Hostile]:
    """A registry that does what it is told."""
    with hostile() as told:
        yield told


def test_bodies_that_are_cut_short(server: Hostile) -> None:
    """They are taken up again, however often, while it goes on; nobody takes the part for the whole."""
    body = LAYERS["a"] * 120_000
    piece = len(body) // 9
    server.answers["/whole"] = [cut(body, piece), *[ranged(body, piece)] * 7, ranged(body)]
    server.answers["/never"] = [cut(body, piece), status(200, body)]
    server.answers["/aside"] = [cut(body, piece), ranged(body, shift=-1)]
    assert piece > 1 << 20
    assert read(Client(server.url), "/whole") == body
    for path in ("/never", "/aside"):
        with pytest.raises(RemoteError, match="cut short"):
            read(Client(server.url), path)
    with pytest.raises(RemoteError, match="404"):
        read(Client(server.url), "/absent")


def test_answers_that_are_cut_short(server: Hostile) -> None:
    """They are asked for again, whole; not for ever."""
    server.answers["/x"] = [cut(b'{"a": 1}', 4), status(200, b'{"a": 1}')]
    server.answers["/never"] = [cut(b'{"a": 1}', 4)]
    assert Client(server.url).request("GET", "/x").object() == {"a": 1}
    with pytest.raises(RemoteError, match="never"):
        Client(server.url).request("GET", "/never")
    assert len(server.said("/never")) == 3


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", None), ("PUT", b"manifest")])
def test_busy_servers_are_asked_again(server: Hostile, method: str, body: bytes | None) -> None:
    """After as long as they say, whatever is asked, if it can be sent again."""
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
        wire, before = Client(server.url, "me", "secret"), len(server.said("/token?service=s"))
        for _ in range(3):
            with pytest.raises(RemoteError, match="refuses the login of --user"):
                wire.request("GET", "/y")
        assert len(server.said("/token?service=s")) == before + 1


def test_redirects_end(server: Hostile) -> None:
    """Five are followed; and none is by what cannot be sent again."""
    for number in range(6):
        server.answers[f"/{number}"] = [status(302, Location=f"/{number + 1}")]
    server.answers["/6"] = [status(200, b"there")]
    assert Client(server.url).request("GET", "/1").body == b"there"
    with pytest.raises(RemoteError, match="too often"):
        Client(server.url).request("GET", "/0")
    assert Client(server.url).request("PUT", "/1", body=iter([b"x"])).status == 302


@pytest.mark.parametrize("challenge", ["", "Basic realm=x", "Bearer realm={other}/token"])
def test_who_is_redirected_to_learns_nothing(server: Hostile, challenge: str) -> None:
    """Neither what the registry was told, nor the password, whatever is asked there."""
    with hostile() as other:
        asked = challenge.format(other=elsewhere(other))
        other.answers["/blob"] = [asking(asked) if asked else status(200, b"bytes")]
        other.answers["/token?service="] = [issuing(300)]
        place = status(307, Location=f"{elsewhere(other)}/blob")
        server.answers["/blob"] = [asking("Basic realm=x"), place]
        wire = Client(server.url, "me", SECRET)
        assert wire.request("GET", "/blob").status == (401 if asked else 200)
        assert other.seen == [("/blob", None)]
        assert server.seen[1][1]
        assert SECRET not in repr(wire)


def test_another_scheme_is_another_registry(server: Hostile) -> None:
    """What leads from https to http is told nothing."""
    server.answers["/blob"] = [asking("Basic realm=x")]
    wire = Client(server.url.replace("http:", "https:"), "me", SECRET)
    assert wire.request("GET", f"{server.url}/blob").status == 401
    wire._login._known[()] = ("Bearer secret", float("inf"), "")  # type: ignore[attr-defined]  # Challenged's
    assert wire.request("GET", f"{server.url}/blob").status == 401
    assert server.said("/blob") == [None, None]
    with pytest.raises(RemoteError, match="in clear"):
        next(wire._login.answers((), f"Bearer realm={server.url}/token", ""))


def test_a_token_server_elsewhere(server: Hostile) -> None:
    """The registry may name it; it alone is told the password."""
    with hostile() as other:
        other.answers["/token?service=s&scope=repository%3Aa%3Apull%2Cpush"] = [issuing(300)]
        challenge = f'Bearer realm="{elsewhere(other)}/token",service="s"'
        server.answers["/x"] = [granting(challenge, 200)]
        assert Client(server.url, "me", SECRET).request("GET", "/x", scope=pushing("a")).status == 200
        assert server.said("/x") == [None, "Bearer t1"]
        assert str(other.seen[0][1]).startswith("Basic ")


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token": "a", "expires_in": "b"}'],
)
def test_token_servers_that_give_none(server: Hostile, answer: bytes) -> None:
    """One line says so, and names nobody's password."""
    server.answers["/token?service="] = [status(200, answer)]
    server.answers["/x"] = [asking(f"Bearer realm={server.url}/token")]
    with pytest.raises(RemoteError, match="gives no token") as raised:
        Client(server.url, "me", SECRET).request("GET", "/x")
    assert SECRET not in str(raised.value)


def test_what_is_sent_once_has_a_token_that_lasts(server: Hostile) -> None:
    """One that is nearly at its end is renewed before."""
    challenge = f"Bearer realm={server.url}/token"
    digest = Digest.of(b"blob")
    server.answers["/token?service=&scope=repository%3Aa%3Apull%2Cpush"] = [issuing(20)]
    server.answers[f"/v2/a/blobs/{digest}"] = [granting(challenge, 404)]
    server.answers["/v2/a/blobs/uploads/"] = [granting(challenge, 202, Location="/put?x=1")]
    server.answers[f"/put?x=1&digest={digest}"] = [granting(challenge, 201)]
    target = RemoteTarget(Client(server.url, "me", SECRET), "")
    assert target.blob(RepositoryName("a"), digest, SourceBytes.of(b"blob")) == 4
    assert server.said("/v2/a/blobs/uploads/") == ["Bearer t1"]
    assert server.said(f"/put?x=1&digest={digest}") == ["Bearer t2"]


@pytest.mark.parametrize("mounted", [True, False])
def test_mounts_ask_for_both_repositories(server: Hostile, mounted: bool) -> None:  # noqa: FBT001 -- parametrised
    """A token for them; where it is not granted, the blob is sent."""
    digest = Digest.of(b"blob")
    mount = f"/v2/b/blobs/uploads/?mount={str(digest).replace(':', '%3A')}&from=a"
    scopes = ["repository%3Ab%3Apull%2Cpush", "repository%3Aa%3Apull"]
    for wanted in (scopes[:1], scopes):
        server.answers["/token?service=&scope=" + "&scope=".join(wanted)] = [issuing(300)]
    server.answers[f"/v2/a/blobs/{digest}"] = [status(200)]
    server.answers[mount] = [granting(f"Bearer realm={server.url}/token", 201 if mounted else 403)]
    server.answers["/v2/b/blobs/uploads/"] = [status(202, Location="put")]
    server.answers[f"/v2/b/blobs/uploads/put?digest={digest}"] = [status(201)]
    target = RemoteTarget(Client(server.url, "me", SECRET), "")
    sent = [target.blob(RepositoryName(name), digest, SourceBytes.of(b"blob")) for name in ("a", "b")]
    assert sent == [0, 0 if mounted else 4]
    assert server.said(mount)[-1] == "Bearer t1"


def test_pages(server: Hostile) -> None:
    """The next one is where the link says, seen from this one."""
    server.answers["/v2/a/tags/list"] = [
        status(200, b'{"tags": ["1"]}', Link='<list?n=1&last=1>; rel="next"')
    ]
    server.answers["/v2/a/tags/list?n=1&last=1"] = [
        status(200, b'{"tags": ["2"]}', Link='<?last=2>; rel="next"')
    ]
    server.answers["/v2/a/tags/list?last=2"] = [status(200, b'{"tags": ["3"]}')]
    assert [tag.name for tag in V2Remote(Client(server.url), "a").tags()] == ["a:1", "a:2", "a:3"]  # type: ignore[union-attr]  # no findings


_ODD = [b"[]", b"1", b"null", b'"x"', b"<html>", b'{"%s": 1}', b'{"%s": [1]}', b'{"%s": {"a": 1}}']


@pytest.mark.parametrize("body", _ODD)
def test_odd_answers(server: Hostile, body: bytes, tmp_path: Path) -> None:
    """They are said in a line, and end nothing that has nothing to do with them."""
    data = tmp_path / "here"

    def odd(key: str) -> list[Callable[[BaseHTTPRequestHandler], None]]:
        return [status(200, body.replace(b"%s", key.encode()))]

    for path, key, line in (
        ("/v2/_catalog?n=1000", "repositories", f"inspect v2+{server.url}"),
        ("/v2/a/tags/list", "tags", f"inspect v2+{server.url}/a"),
        ("/v1/search?q=&n=100&page=1", "results", f"inspect v1+{server.url}"),
    ):
        server.answers = {path: odd(key)}
        output = command(data, line, code=2).output
        assert output.count("\n") == 1, output
    image = b'{"schemaVersion": 2}'
    server.answers = {
        "/v2/a/tags/list": [status(200, b'{"tags": ["1"]}')],
        "/v2/a/manifests/1": [status(200, image)],
        f"/v2/a/referrers/{Digest.of(image)}": odd("manifests"),
    }
    assert "refused" in command(data, f"inspect v2+{server.url}/a", code=1).output
    server.answers = {
        "/v1/search?q=&n=100&page=1": [status(200, b'{"num_pages": "x", "results": [{"name": "a/b"}, {}]}')],
        "/v1/repositories/a/b/tags": odd("latest"),
    }
    command(data, f"inspect v1+{server.url}", code=1)

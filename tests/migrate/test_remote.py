"""Live registries, to move in from and out to: honest ones, and one that breaks off, lies and redirects."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry
from dualreg.cli import main
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.v2_remote import V2Remote
from dualreg.migrate.wire import Wire, WireError
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.base import read_chunks
from tests.migrate import stock_trees
from tests.migrate.commands import command
from tests.migrate.trees import LAYERS, Tree
from tests.programs import dualreg_server

SECRET = "not for everybody"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """A registry that asks for a password, with images of every sort; its folder, host and options."""
    folder = tmp_path / "there"
    old = Tree(tmp_path / "old")
    base = old.image("base", stock_trees.LAYERS["a"])
    old.tag("team/old", "1", old.image("top", stock_trees.LAYERS["b"], parent=base))
    old.tag("library/short", "latest", base)
    command(folder, f"run v1-tree:{old.root}")
    tree = stock_trees.small(tmp_path / "stock")
    tree.schema1("team/one", "1", stock_trees.LAYERS["c"], stock_trees.LAYERS["d"])
    command(folder, f"run registry-tree:{tree.root}")
    admin(folder, "account", "add", "mover")
    admin(folder, "access", "grant", "mover", "*", "pull,push,delete")
    admin(folder, "access", "grant", "mover", "registry:catalog", "*", check=False)
    (tmp_path / "password").write_text(f"{SECRET}\n")
    with dualreg_server(folder, auth="accounts") as host:
        yield folder, host, f"--user mover --password-file {tmp_path / 'password'}"


def admin(folder: Path, *arguments: str, check: bool = True) -> None:
    """Run another command of ours."""
    done = CliRunner().invoke(main, [*arguments, "--data", str(folder)], input=f"{SECRET}\n{SECRET}\n")
    assert not check or done.exit_code == 0, done.output


def opened(folder: Path) -> Registry:
    """Return the registry of a folder."""
    return open_registry(Settings(data=folder))


def tags_of(folder: Path) -> dict[str, str]:
    """Return every tag, and its manifest."""
    registry = opened(folder)
    found = {}
    for name in registry.repositories.list(last="", limit=99).rows:
        for tag in registry.tags.list(name).rows:
            found[f"{name}:{tag}"] = str(registry.manifests.find(name, tag).digest)
    registry.state.catalog.close()
    return found


def test_in_over_v2(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """Digests, referrers and all, through a login; nothing is read twice."""
    folder, host, login = there
    repositories = sorted({tag.rpartition(":")[0] for tag in tags_of(folder)})
    for name in repositories:
        line = f"v2+http://{host}/{name} {login}"
        command(tmp_path / "here", f"run {line}")
        command(tmp_path / "here", f"verify {line}")
        assert "same" in command(tmp_path / "here", f"run {line}").output
    assert tags_of(tmp_path / "here") == tags_of(folder)
    assert SECRET not in "".join(path.read_text() for path in (tmp_path / "here/migrations").iterdir())
    registry = opened(tmp_path / "here")
    index = registry.manifests.find(RepositoryName("team/app"), Tag("latest"))
    assert len(registry.referrers.list(RepositoryName("team/app"), index.digest).rows) == 1
    registry.state.catalog.close()


def test_in_over_v1(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """Ids and JSONs, byte for byte."""
    folder, host, login = there
    line = f"v1+http://{host} {login}"
    command(tmp_path / "here", f"run {line}")
    command(tmp_path / "here", f"verify {line}")
    theirs, ours = opened(folder), opened(tmp_path / "here")
    for name, tag in (("team/old", "1"), ("short", "latest"), ("team/app", "latest"), ("team/one", "1")):
        place = (RepositoryName(name), Tag(tag))
        assert ours.bridge.resolve(*place) == theirs.bridge.resolve(*place)
        rows = [each.v1_images.ancestry(place[0], each.bridge.resolve(*place)) for each in (ours, theirs)]
        assert [row.json for row in rows[0]] == [row.json for row in rows[1]]
    for each in (theirs, ours):
        each.state.catalog.close()


def test_out_over_v2(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """Pushed, mounted, and not sent again."""
    folder, _, login = there
    with dualreg_server(tmp_path / "other") as host:
        arguments = ["export", f"v2+http://{host}/moved", *login.split(), "--data", str(folder)]
        first, second = (CliRunner().invoke(main, arguments, catch_exceptions=False) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    assert "5 done" in first.output
    assert "5 same" in second.output
    theirs = tags_of(tmp_path / "other")
    ours = {f"moved/{name}": digest for name, digest in tags_of(folder).items()}
    assert theirs.keys() == ours.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == {"moved/team/one:1"}  # it was schema 1


def test_verify_over_http(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """What clients of both generations get is compared too."""
    folder, host, login = there
    password = login.rpartition(" ")[2]
    http = f"--http http://{host} --http-user mover --http-password-file {password}"
    line = f"verify v1-tree:{tmp_path / 'old'} {http}"
    command(folder, line)
    command(folder, f"{line} --quick")
    ours = stock_trees.StockTree(folder).data(Digest.of(stock_trees.LAYERS["b"]))
    ours.chmod(0o644)
    ours.write_bytes(bytes(ours.stat().st_size))
    wrong = json.loads(command(folder, f"{line} --json", code=1).stdout)["wrong"]
    assert any("over V2" in problem for problem in wrong["team/old:1"])
    without = line.partition(" --http-user")[0]
    output = command(folder, without, code=1).output
    assert "over V2: 401" in output


@pytest.mark.parametrize(
    "url",
    [
        "v2+http://",
        "v2+http://me:secret@host/x",
        "v2+ftp://host",
        "v2+http://127.0.0.1:1",
        "v1+http://127.0.0.1:1",
    ],
)
def test_no_live_registry(tmp_path: Path, url: str) -> None:
    """One readable line without secrets."""
    output = command(tmp_path / "here", f"inspect {url}", code=2).output
    assert output.count("\n") == 1
    assert "secret" not in output


@dataclass
class Hostile:
    """A registry that does what it is told.

    Attributes:
        answers: What to do for each path, the first time, the second, and so on; the last for ever.
        seen: Requests: path, and the value of Authorization.
    """

    answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def hostile() -> Iterator[Hostile]:
    """Run one."""
    told = Hostile()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.seen.append((self.path, self.headers.get("Authorization")))
            steps = told.answers.get(self.path) or [status(404)]
            (steps.pop(0) if len(steps) > 1 else steps[0])(self)

        do_HEAD = do_GET  # noqa: N815 -- what http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with a status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def cut(body: bytes, at: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """Promise the whole body, and break off."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        status(200, body[:at], Content_Length=str(len(body)))(handler)
        handler.wfile.flush()
        handler.close_connection = True

    return answer


def ranged(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Go on where it is asked for."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        first = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        status(206, body[first:])(handler)

    return answer


def read(wire: Wire, path: str) -> bytes:
    """Read a stream to its end."""
    with wire.stream(path) as reader:
        return b"".join(read_chunks(reader))


def test_bodies_that_are_cut_short() -> None:
    """They are taken up again; if that cannot be, nobody takes the part for the whole."""
    body = LAYERS["a"] * 50_000
    with hostile() as server:
        server.answers["/whole"] = [cut(body, 3_000_000), ranged(body)]
        server.answers["/never"] = [cut(body, 3_000_000), status(200, body)]
        assert read(Wire(server.url), "/whole") == body
        with pytest.raises(WireError, match="cut short"):
            read(Wire(server.url), "/never")
        with pytest.raises(WireError, match="404"):
            read(Wire(server.url), "/absent")


def test_busy_servers_are_asked_again() -> None:
    """After as long as they say."""
    with hostile() as server:
        server.answers["/x"] = [status(503), status(429, Retry_After="1"), status(200, b"{}")]
        assert Wire(server.url).request("GET", "/x").json() == {}
        assert len(server.seen) == 3


def test_credentials_stay_where_they_belong() -> None:
    """Another host that is redirected to does not see them."""
    with hostile() as other, hostile() as server:
        other.answers["/blob"] = [status(200, b"bytes")]
        challenge = status(401, WWW_Authenticate='Basic realm="x"')
        server.answers["/blob"] = [
            challenge,
            status(307, Location=f"{other.url.replace('127.0.0.1', 'localhost')}/blob"),
        ]
        wire = Wire(server.url, "me", SECRET)
        assert wire.request("GET", "/blob").body == b"bytes"
        assert [authorization for _, authorization in other.seen] == [None]
        assert server.seen[1][1]
        assert SECRET not in repr(wire)


def test_registries_that_lie(tmp_path: Path) -> None:
    """Wrong bytes, lists without an end, no digest, no JSON."""
    with hostile() as server:
        server.answers["/v2/_catalog?n=1000"] = [
            status(200, b'{"repositories": ["a"]}', Link='</v2/_catalog?n=1000>; rel="next"')
        ]
        assert "no end" in command(tmp_path / "here", f"inspect v2+{server.url}", code=2).output
        body = b'{"schemaVersion": 2}'
        server.answers["/v2/a/tags/list"] = [status(200, b'{"tags": ["1"]}')]
        server.answers["/v2/a/manifests/1"] = [status(200, body)]
        (tag,) = V2Remote(Wire(server.url), "a").tags()
        assert tag.image == str(Digest.of(body))  # type: ignore[union-attr]  # it is no finding
        server.answers[f"/v2/a/manifests/{Digest.of(body)}"] = [status(200, b"{}")]
        assert "corrupt" in command(tmp_path / "here", f"run v2+{server.url}/a", code=3).output
        del server.answers["/v2/a/manifests/1"]
        assert "dangling-tag" in command(tmp_path / "here", f"inspect v2+{server.url}/a", code=1).output
        listed = b'{"tags": ["1"]}'
        server.answers["/v2/a/tags/list"] = [status(200, listed)]
        server.answers["/v2/a/manifests/1"] = [status(200, body, Docker_Content_Digest=str(Digest.of(body)))]
        server.answers[f"/v2/a/manifests/{Digest.of(body)}"] = [status(200, body), status(500)]
        output = command(tmp_path / "here", f"run v2+{server.url}/a", code=3).output
        assert "1 failed" in output or "1 skipped" in output
        server.answers["/v2/a/tags/list"] = [status(200, b"<html>")]
        output = command(tmp_path / "here", f"inspect v2+{server.url}/a", code=2).output
        assert "no JSON" in output

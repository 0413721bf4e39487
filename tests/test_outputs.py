"""Everything that is printed, logged or kept as a record: no control characters, and no secrets."""

import base64
import json
import os
import re
import shutil
import socket
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import urllib3

from tests import builders
from tests.migrate.commands import command, export
from tests.migrate.fronts import Hostile, hostile, status
from tests.migrate.stock_trees import LAYERS as STOCK_LAYERS
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree
from tests.programs import DUALREG, dualreg_process, free_port, start, until
from tests.protocol.clients.wire import Wire

#: Names that set the title of a terminal, clear it, reverse text, forge a line, or have no encoding.
HOSTILE = ("\x1b]0;t\x07", "\x1b[2J", "a\n1 done", "a\r1 done", "\u202ex\u2066", "\x7f\x85\x9b2J", "\u2028x")
SECRET = "s3cr3t-do-not-show"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where the registry will be."""
    return tmp_path / "data"


def assert_safe(output: str | bytes, where: object = "") -> None:
    """Assert that only line ends are no printable characters, and that no secret is in it."""
    text = output if isinstance(output, str) else output.decode("utf-8")
    unsafe = {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp", "Cs")} - {"\n"}
    assert not unsafe, (where, unsafe, text)
    assert not re.search("^1 done$", text, re.MULTILINE), (where, text)
    assert SECRET not in text, (where, text)
    assert base64.b64encode(SECRET.encode())[:12].decode() not in text, (where, text)


def records(data: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield what commands and servers keep to be read by people: journals, audit log and server logs."""
    for path in [*data.rglob("*.jsonl"), *data.parent.glob("*.log"), *data.rglob("*.log")]:
        yield path, path.read_bytes()


def v1_tree(root: Path) -> str:
    """Write a tree of V1 images whose names are hostile: of repositories, tags, images, and in JSON."""
    tree = Tree(root)
    image = tree.image("app", LAYERS["a"])
    tree.tag("team/app", "1", image)
    tag, side = root / "repositories/team/app/tag_1", root / "repositories/team/app/tag1_json"
    for name in (*map(str.encode, HOSTILE), b"\xff\xfe"):
        place = os.fsencode(root)
        shutil.copy(tag, place + b"/repositories/team/app/tag_" + name)
        shutil.copytree(place + b"/repositories/team/app", place + b"/repositories/" + name + b"/app")
        shutil.copytree(place + b"/repositories/team/app", place + b"/repositories/team/" + name)
        os.mkdir(place + b"/images/" + name)  # noqa: PTH102 -- of bytes
    side.write_text(json.dumps({"docker_version": HOSTILE[1], "kernel": HOSTILE[4]}))
    tree.tag("team/broken", "1", HOSTILE[1] + "a\n1 done")
    return f"v1-tree:{root}"


def stock_tree(root: Path) -> str:
    """Write a tree of manifests, likewise."""
    tree, image = StockTree(root), builders.image(STOCK_LAYERS["a"])
    tree.image("team/app", image, "1")
    repositories = tree.v2 / "repositories"
    for name in (*map(str.encode, HOSTILE), b"\xff\xfe"):
        place = os.fsencode(repositories)
        tags = place + b"/team/app/_manifests/tags/"
        shutil.copytree(tags + b"1", tags + name)
        shutil.copytree(place + b"/team/app", place + b"/" + name)
    media_type = f"text/{HOSTILE[1]}\n1 done"
    odd = {"schemaVersion": 2, "mediaType": media_type, "layers": [{"mediaType": HOSTILE[4]}]}
    digest = tree.blob(json.dumps(odd).encode())
    link = repositories / "team/odd/_manifests/tags/1/current/link"
    link.parent.mkdir(parents=True)
    link.write_text(str(digest))
    return f"registry-tree:{root}"


def oci_layout(root: Path) -> str:
    """Write an OCI layout, likewise."""
    (root / "blobs").mkdir(parents=True)
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entries = [
        {"mediaType": HOSTILE[1], "digest": f"sha256:{number:064}", "size": 1,
         "annotations": {"org.opencontainers.image.ref.name": name, "org.dualreg.repository": name}}
        for number, name in enumerate(HOSTILE)
    ]  # fmt: skip
    (root / "index.json").write_text(json.dumps({"manifests": entries}))
    return f"oci-layout:{root}"


def docker_archive(root: Path) -> str:
    """Write an archive of docker save, likewise."""
    entries = [
        {"Config": f"{name}.json", "RepoTags": [f"{name}:{name}"], "Layers": [name]} for name in HOSTILE
    ]
    root.write_bytes(builders.tar({"manifest.json": json.dumps(entries).encode()}))
    return f"docker-archive:{root}"


LINES = ("inspect", "inspect --json", "plan", "run --dry-run", "run", "run --json", "verify", "verify --json")
REPORTS = ("report", "report --csv", "report --csv-images", "report --json", "report --list")


def drive(data: Path, source: str, options: str = "") -> None:
    """Run every command over a source."""
    for line in (*(f"{line} {source} {options}" for line in LINES), *REPORTS, f"rollback --all {source}"):
        assert_safe(command(data, line, code=None).output_bytes, line)
    for path, content in records(data):
        assert_safe(content, path)


@pytest.mark.slow
@pytest.mark.parametrize("make", [v1_tree, stock_tree, oci_layout, docker_archive])
def test_hostile_files(make: object, tmp_path: Path, data: Path) -> None:
    """No name and no content of a source comes out as it is."""
    drive(data, make(tmp_path / "old"))  # type: ignore[operator]  # one of these functions


def answers(server: Hostile, paths: Iterable[str], body: object, **headers: str) -> None:
    """Have a server answer with a JSON document."""
    for path in paths:
        server.answers[path] = [status(200, json.dumps(body).encode(), **headers)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_hostile_registries(kind: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does any of a server, whatever it answers; nor the password, nor what a redirect is signed with."""
    monkeypatch.setattr(urllib3.Retry, "sleep", lambda *_: None)  # between two tries
    password = tmp_path / "password"
    password.write_text(f"{SECRET}\n")
    with hostile() as server:
        results = [{"name": name} for name in HOSTILE]
        answers(server, ["/v1/search?q=&n=100&page=1"], {"results": results, "num_pages": 1})
        answers(server, ["/v2/_catalog?n=1000"], {"repositories": ["team/app", "team/x", *HOSTILE]})
        answers(server, ["/v2/team/app/tags/list"], {"tags": ["1", *HOSTILE]})
        answers(server, ["/v1/repositories/library/app/tags"], {"1": "a" * 64, HOSTILE[1]: HOSTILE[2]})
        place = f"{server.url}/x?X-Amz-Signature={SECRET}&token={SECRET}"
        server.answers["/v2/team/app/manifests/1"] = [status(302, Location=place)]
        server.answers["/v2/team/x/tags/list"] = [status(500, HOSTILE[1].encode())]
        server.answers["/v1/images/" + "a" * 64 + "/json"] = [status(302, Location=place)]
        url = f"{kind}+{server.url}"
        for source in (url, f"{url}/team/app", f"{url}/library/app"):
            drive(data, source, f"--user me --password-file {password}")


@pytest.mark.slow
def test_hostile_targets(tmp_path: Path, data: Path) -> None:
    """Nor what a registry says to an export."""
    tree = StockTree(tmp_path / "old")
    tree.image("team/app", builders.image(STOCK_LAYERS["a"]), "1")
    command(data, f"run registry-tree:{tree.root}")
    with hostile() as server:
        refusal = f"\x1b[2J\n1 done \u202e {server.url.replace('//', f'//me:{SECRET}@')}".encode()
        server.answers["/v2/team/app/blobs/uploads/"] = [
            status(202, Location=f"/put?_state={SECRET}&token={SECRET}")
        ]
        for answer in (status(500, refusal), status(403, refusal)):
            server.answers["/v2/team/app/manifests/1"] = [answer]
            for way in ("", "--json"):
                assert_safe(export(data, f"v2+{server.url} {way}", code=None).output_bytes)


SETTINGS = {
    "database": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/none?password={SECRET}",
    "store": f"s3://me:{SECRET}@bucket",
    "public_url": f"ftp://me:{SECRET}@host",
    "token_keys": f"https://me:{SECRET}@host/keys?token={SECRET}",
    "legacy_source": f"v2+https://me:{SECRET}@host",
    "oidc_issuer": f"http://me:{SECRET}@host",
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("line", ["config show", "config show --json", "account list", "gc", "serve"])
def test_secrets_in_settings(name: str, line: str, tmp_path: Path) -> None:
    """No command shows one, whether the setting is valid, refused or of no use."""
    log = tmp_path / "output"
    log.write_text("")
    env = {f"DUALREG_{name.upper()}": SETTINGS[name], "DUALREG_DATA": str(tmp_path / "data")}
    process = start([DUALREG, *line.split()], log, {**env, "DUALREG_BIND": str(free_port())}, cwd=tmp_path)
    assert until(lambda: process.poll() is not None or "Serving" in log.read_text())
    process.terminate()
    process.wait(25)  # a server kills workers after 30
    assert log.read_text()
    assert_safe(log.read_bytes())


@pytest.mark.parametrize(
    "line",
    [
        f"migrate run v2+https://me:{SECRET}@127.0.0.1:1/x",
        f"migrate plan v2+https://127.0.0.1:1/x?token={SECRET}",
        f"migrate inspect https://me:{SECRET}@127.0.0.1:1",
        f"migrate run me:{SECRET}@127.0.0.1:1",
        f"export v2+http://me:{SECRET}@127.0.0.1:1",
        f"migrate verify v1-tree:. --http http://me:{SECRET}@127.0.0.1:1",
        f"migrate rollback --all v2+https://me:{SECRET}@127.0.0.1:1/x",
    ],
)
def test_secrets_in_arguments(line: str, tmp_path: Path, data: Path) -> None:
    """A URL with a password is refused without it, and no journal has it."""
    log = tmp_path / "output"
    start([DUALREG, *line.split(), "--data", data], log, cwd=tmp_path).wait(60)
    assert log.read_text()
    assert_safe(log.read_bytes())
    for path, content in records(data):
        assert_safe(content, path)


#: Paths and a request with escapes, in bytes and in percent-encoding.
PATHS = (
    b"/v2/a\x1b[2J/tags/list",
    b"/v2/a%1b%5b2J%0a1%20done/manifests/1",
    b"/\xc2\x9b2J",
    b"/v1/\xe2\x80\xae",
)
REQUEST = (
    b"GET %b?token=%b HTTP/1.1\r\nHost: x\r\nUser-Agent: docker/1.5 %b\r\nReferer: https://x/?token=%b%b\r\n"
    b"X-Forwarded-For: %b\r\nAuthorization: Basic %b\r\nContent-Type: %b\r\nConnection: close\r\n\r\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("make", [v1_tree, stock_tree])
def test_the_servers_log(make: object, tmp_path: Path) -> None:
    """No request and no name of the legacy source comes out in the log as it is, nor a credential."""
    data, source = tmp_path / "data", make(tmp_path / "old")  # type: ignore[operator]  # one of these functions
    (tmp_path / "old").chmod(0o755)
    basic = base64.b64encode(f"me\x1b[2J\n:{SECRET}".encode())
    with dualreg_process(data, legacy_source=source, auth="accounts") as serving:
        secret = SECRET.encode()
        for path in PATHS:
            for value in (b"\x1b[2J\x07", b"\xc2\x9b2J\xe2\x80\xae", b"\x7f"):
                words = (path, secret, value, secret, value, value, basic, value)
                raw(serving.host, REQUEST % words)
        raw(serving.host, b"GET /\x1b[2J\x07\r\n\r\n")
        raw(serving.host, b"\x1b[2J / HTTP/1.1\r\n\r\n")
        raw(serving.host, b"GET / HTTP/1.1\r\nA\x1b[2J: x\r\n\r\n")
        wire = Wire(serving.host)
        for repository in ("team/app", "team/broken", "team/odd"):
            for reference in ("1", "latest", "sha256:" + "0" * 64):
                wire.send("GET", f"/v2/{repository}/manifests/{reference}")
            wire.send("GET", f"/v1/repositories/{repository}/tags")
            wire.send("GET", f"/v1/repositories/{repository}/images")
    assert serving.log.stat().st_size
    for path, content in records(data):
        assert_safe(content, path)


def raw(host: str, request: bytes) -> None:
    """Send bytes, and read whatever comes back."""
    name, _, port = host.rpartition(":")
    with socket.create_connection((name, int(port)), timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

"""A source behind a running registry: its images come when they are asked for, and all others in time."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from werkzeug.test import Client

from dualreg.assembly import open_registry, prepare
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.migrate.commands import command
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree
from tests.programs import DUALREG, dualreg_process, environment, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client

#: A minute ago, as far as an old registry is concerned.
PAST = int(time.time()) - 60


@dataclass
class Behind:
    """A registry with a source behind it.

    Attributes:
        push: Writes a tag of ``team/app`` into the source, as of a time, with an image of that letter.
    """

    data: Path
    source: str
    push: Callable[[str, str, int], None]

    @property
    def settings(self) -> Settings:
        """With the source."""
        return Settings(data=self.data, legacy_source=self.source)


def _v1(tmp_path: Path) -> Behind:
    tree = Tree(tmp_path / "old")
    base = tree.image("base", LAYERS["a"])

    def push(tag: str, letter: str, at: int) -> None:
        tree.tag("team/app", tag, tree.image(letter, LAYERS[letter], parent=base), at)

    tree.tag("library/short", "latest", base, PAST)
    return Behind(tmp_path / "data", f"v1-tree:{tree.root}", push)


def _stock(tmp_path: Path) -> Behind:
    tree = StockTree(tmp_path / "stock")

    def push(tag: str, letter: str, at: int) -> None:
        tree.image("team/app", builders.image(LAYERS["a"], LAYERS[letter]), tag)
        link = tree.v2 / "repositories/team/app/_manifests/tags" / tag / "current/link"
        os.utime(link, (at, at))

    tree.image("short", builders.image(LAYERS["a"]), "latest")
    return Behind(tmp_path / "data", f"registry-tree:{tree.root}", push)


@pytest.fixture(params=[_v1, _stock])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Behind:
    """Each sort of source, with three tags."""
    made: Behind = request.param(tmp_path)
    for tag, letter in (("1", "b"), ("2", "c"), ("3", "d")):
        made.push(tag, letter, PAST)
    return made


@pytest.fixture
def registry(behind: Behind) -> Iterator[Registry]:
    """The registry that serves it."""
    prepare(behind.settings)
    opened = open_registry(behind.settings)
    yield opened
    opened.state.catalog.close()


@pytest.fixture
def client(registry: Registry) -> Client:
    """Somebody who asks."""
    return client_of(registry)


def listed(client: Client, name: str = "team/app") -> list[str]:
    """Return the tags that V2 clients see."""
    answer = client.get(f"/v2/{name}/tags/list")
    return answer.json["tags"] if answer.status_code == 200 else []


def held(registry: Registry) -> set[str]:
    """Return the tags that were taken in."""
    with registry.state.catalog.read() as tx:
        rows = tx.tags.list(RepositoryName("team/app"), last="", limit=None)
    return {*(rows or ())}


def layers_of(client: Client, tag: str) -> list[bytes]:
    """Pull a tag as V2 clients do; return its layers."""
    document = client.get(f"/v2/team/app/manifests/{tag}").json
    return [client.get(f"/v2/team/app/blobs/{layer['digest']}").data for layer in document["layers"]]


def test_an_image_comes_when_it_is_asked_for(client: Client, registry: Registry) -> None:
    """That one alone; all names are there from the beginning."""
    assert listed(client) == ["1", "2", "3"]
    assert client.get("/v2/team/app/tags/list?n=2&last=1").json["tags"] == ["2", "3"]
    assert held(registry) == set()
    assert layers_of(client, "2") == [LAYERS["a"], LAYERS["c"]]
    assert held(registry) == {"2"}
    assert listed(client) == ["1", "2", "3"]
    assert client.head("/v2/short/manifests/latest").status_code == 200
    for missing in ("/v2/team/app/manifests/9", "/v2/none/manifests/1", "/v2/none/tags/list"):
        assert client.get(missing).status_code == 404


def test_old_clients_find_all_of_it(client: Client) -> None:
    """Tags, images, JSONs and layers, by whichever name."""
    tags = client.get("/v1/repositories/team/app/tags").json
    assert tags.keys() == {"1", "2", "3"}
    assert client.get("/v1/repositories/library/short/tags").json.keys() == {"latest"}
    answer = client.get("/v1/repositories/team/app/images", headers={"X-Docker-Token": "true"})
    assert {each["id"] for each in answer.json} >= {*tags.values()}
    session = {"Authorization": f"Token {answer.headers['X-Docker-Token']}"}
    ancestry = client.get(f"/v1/images/{tags['1']}/ancestry", headers=session).json
    assert [client.get(f"/v1/images/{id_}/layer", headers=session).data for id_ in ancestry] == [
        LAYERS["b"], LAYERS["a"],
    ]  # fmt: skip
    assert client.get(f"/v1/images/{'f' * 64}/json", headers=session).status_code == 404


def test_deleted_tags_stay_deleted(client: Client, registry: Registry, behind: Behind) -> None:
    """Taken in or not; unless they are pushed there again."""
    client.get("/v2/team/app/manifests/1")
    digest = client.head("/v2/team/app/manifests/2").headers["Docker-Content-Digest"]
    assert client.delete("/v2/team/app/manifests/1").status_code == 202
    assert client.delete(f"/v2/team/app/manifests/{digest}").status_code == 202
    assert listed(client) == ["3"]
    assert client.delete("/v2/team/app/manifests/3").status_code == 202
    assert listed(client) == []
    for tag in "123":
        assert client.get(f"/v2/team/app/manifests/{tag}").status_code == 404
        assert client.delete(f"/v2/team/app/manifests/{tag}").status_code == 404
    behind.push("2", "e", int(time.time()) + 5)
    assert layers_of(client, "2") == [LAYERS["a"], LAYERS["e"]]
    registry.repositories.delete(RepositoryName("short"))
    assert client.get("/v2/short/manifests/latest").status_code == 404


def test_old_clients_delete(client: Client) -> None:
    """One tag, or all."""
    assert client.delete("/v1/repositories/team/app/tags/1").status_code == 200
    assert client.get("/v1/repositories/team/app/tags").json.keys() == {"2", "3"}
    assert client.delete("/v1/repositories/team/app/").status_code == 200
    assert client.get("/v1/repositories/team/app/tags").status_code == 404


def test_what_is_pushed_here_counts(client: Client, registry: Registry, behind: Behind) -> None:
    """A tag that was pushed here is never overwritten by what it was there; one that is newer there is."""
    client.get("/v2/team/app/manifests/2")
    ours = builders.image(LAYERS["x"])
    for digest, data in ours.blobs.items():
        client.post(f"/v2/team/app/blobs/uploads/?digest={digest}", data=data)
    headers = {"Content-Type": ours.media_type}
    assert client.put("/v2/team/app/manifests/1", data=ours.manifest, headers=headers).status_code == 201
    behind.push("2", "e", int(time.time()) + 5)
    command(behind.data, f"run {behind.source} --existing newer", code=None)
    assert client.head("/v2/team/app/manifests/1").headers["Docker-Content-Digest"] == str(ours.digest)
    assert layers_of(client, "2") == [LAYERS["a"], LAYERS["e"]]
    assert held(registry) == {"1", "2", "3"}


def test_broken_images_are_told_of_once(
    client: Client, behind: Behind, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """They are not found, and not read again and again."""
    root = tmp_path / ("old" if behind.source.startswith("v1") else "stock")
    files = [*root.rglob("layer")] + [
        path for path in root.rglob("data") if path.read_bytes()[:2] == b"\x1f\x8b"
    ]
    for path in files:
        path.write_bytes(path.read_bytes()[:-9])
    for _ in range(3):
        assert client.get("/v2/team/app/manifests/1").status_code == 404
    assert sum("cannot be taken in" in record.message for record in caplog.records) == 1


def test_a_server_takes_in_everything_in_time(behind: Behind) -> None:
    """Clients of both generations are served at once, and a process beside the server does the rest."""
    with dualreg_process(behind.data, legacy_source=behind.source) as (host, process, log):
        assert V2Client(host).pull("team/app", "3").layers == [LAYERS["a"], LAYERS["d"]]
        assert {image.layer for image in V1Client(host).pull("team/app", "1")} == {LAYERS["a"], LAYERS["b"]}
        settings = Settings(data=behind.data)
        opened = open_registry(settings)
        assert until(lambda: held(opened) == {"1", "2", "3"}), log.read_text()
        opened.state.catalog.close()
        children = _children(process.pid)
    assert until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])
    assert "Traceback" not in log.read_text()


def test_following(behind: Behind) -> None:
    """Pass after pass, until it is told to stop; one in which there is nothing to do leaves no journal."""
    line = [DUALREG, "migrate", "run", behind.source, "--follow", "1s", "--data", behind.data]
    with subprocess.Popen([*map(str, line)], env=environment(), stdout=subprocess.PIPE, text=True) as process:
        registry = None
        try:
            assert until(lambda: len([*behind.data.glob("migrations/*.jsonl")]) == 1)
            registry = open_registry(Settings(data=behind.data))
            assert until(lambda: held(registry) == {"1", "2", "3"})
            behind.push("4", "e", int(time.time()))
            assert until(lambda: "4" in held(registry))
            time.sleep(1.5)
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=20)
            if registry:
                registry.state.catalog.close()
    assert process.returncode == 0
    assert len(output.splitlines()) == len([*behind.data.glob("migrations/*.jsonl")]) == 2


@pytest.mark.parametrize("source", ["v1-tree:/nowhere", "oci-layout:/x", "docker-archive:/x"])
def test_no_legacy_source(tmp_path: Path, source: str) -> None:
    """One readable line, and no server."""
    env = {**environment(), "DUALREG_LEGACY_SOURCE": source}
    line = [DUALREG, "serve", "--data", tmp_path / "data", "--bind", "127.0.0.1:0"]
    done = subprocess.run([*map(str, line)], env=env, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0
    assert "legacy_source" in done.stderr.lower()
    assert done.stderr.count("\n") == 1


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found]

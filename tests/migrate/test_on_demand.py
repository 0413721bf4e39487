"""A source behind a running registry: images are imported on request, and in the background."""

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from cachetools import LRUCache
from werkzeug.test import Client, TestResponse

from dualreg.assembly import open_registry, prepare
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.migrate.journal import Journal
from dualreg.migrate.on_demand.lookup import TreeLookup
from dualreg.migrate.on_demand.trees import OnDemandV1Tree
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.apps import client_of
from tests.migrate.commands import command
from tests.migrate.stock_trees import StockTree, referrer
from tests.migrate.trees import LAYERS, Tree
from tests.programs import DUALREG, children, dualreg_process, environment, until
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

    @property
    def root(self) -> Path:
        """Where the source is."""
        return Path(self.source.partition(":")[2])

    @property
    def is_v1(self) -> bool:
        """Whether it holds V1 images."""
        return self.source.startswith("v1-tree:")

    def journal(self) -> list[dict[str, object]]:
        """Return the lines of all journals."""
        paths = sorted(self.data.glob("migrations/*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


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


@dataclass
class Registries:
    """Opens registries that are closed in the end."""

    empty: Path
    opened: list[Registry] = field(default_factory=list)

    def __call__(self, settings: Settings) -> Registry:
        """Open one; an empty one is copied, which is quicker than to make it."""
        if not (settings.data / "catalog.sqlite3").exists():
            shutil.copytree(self.empty, settings.data, dirs_exist_ok=True)
        prepare(settings)
        self.opened.append(open_registry(settings))
        return self.opened[-1]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a registry that holds nothing."""
    folder = tmp_path_factory.mktemp("empty")
    prepare(Settings(data=folder))
    return folder


@pytest.fixture
def serve(empty: Path) -> Iterator[Registries]:
    """Opens registries."""
    made = Registries(empty)
    yield made
    for each in made.opened:
        each.close()


@pytest.fixture
def registry(behind: Behind, serve: Registries) -> Registry:
    """The registry that serves it."""
    return serve(behind.settings)


@pytest.fixture
def client(registry: Registry) -> Client:
    """An HTTP client of the registry."""
    return client_of(registry)


def listed(client: Client, name: str = "team/app") -> list[str]:
    """Return the tags that V2 clients see."""
    answer = client.get(f"/v2/{name}/tags/list")
    return answer.json["tags"] if answer.status_code == 200 else []


def held(registry: Registry) -> set[str]:
    """Return the tags that were imported."""
    with registry.state.catalog.read() as tx:
        rows = tx.tags.list(RepositoryName("team/app"), last="", limit=None)
    return {*(rows or ())}


def session(client: Client, name: str = "team/app") -> dict[str, str]:
    """Return the token that a V1 client begins a pull with."""
    answer = client.get(f"/v1/repositories/{name}/images", headers={"X-Docker-Token": "true"})
    return {"Authorization": f"Token {answer.headers['X-Docker-Token']}"}


def push(client: Client, image: builders.Image, tag: str, **headers: str) -> TestResponse:
    """Push an image as V2 clients do; return the last answer."""
    for digest, data in image.blobs.items():
        client.post(f"/v2/team/app/blobs/uploads/?digest={digest}", data=data)
    headers["Content-Type"] = image.media_type
    return client.put(f"/v2/team/app/manifests/{tag}", data=image.manifest, headers=headers)


def layers_of(client: Client, tag: str) -> list[bytes]:
    """Pull a tag as V2 clients do; return its layers."""
    document = client.get(f"/v2/team/app/manifests/{tag}").json
    return [client.get(f"/v2/team/app/blobs/{layer['digest']}").data for layer in document["layers"]]


def test_an_image_comes_when_it_is_asked_for(client: Client, registry: Registry) -> None:
    """A request imports its image alone; all names are listed from the beginning."""
    assert listed(client) == ["1", "2", "3"]
    assert client.get("/v2/team/app/tags/list?n=2&last=1").json["tags"] == ["2", "3"]
    assert held(registry) == set()
    assert layers_of(client, "2") == [LAYERS["a"], LAYERS["c"]]
    assert held(registry) == {"2"}
    assert listed(client) == ["1", "2", "3"]
    assert client.head("/v2/short/manifests/latest").status_code == 200
    for missing in ("/v2/team/app/manifests/9", "/v2/none/manifests/1", "/v2/none/tags/list"):
        assert client.get(missing).status_code == 404


def test_a_full_disk_is_no_fault_of_the_source(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both generations get 500, not 404; when space is free again, the image is served."""

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemStore, "append", full)
        assert client.get("/v2/team/app/manifests/1").status_code == 503
        assert client.get("/v1/repositories/team/app/tags/1").status_code == 503
    assert layers_of(client, "1") == [LAYERS["a"], LAYERS["b"]]


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
    """A deleted tag, imported or not, is not imported again unless it is pushed to the source again."""
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


def test_old_clients_delete(client: Client, behind: Behind, registry: Registry) -> None:
    """V1 clients delete one tag or all; a repository that does not exist leaves no trace."""
    away = behind.root.rename(behind.root.with_name("away"))
    assert client.delete("/v1/repositories/team/app/").status_code == 404
    with registry.state.catalog.read() as tx:
        assert not tx.deletions.of(RepositoryName("team/app")).times
    away.rename(behind.root)
    assert client.delete("/v1/repositories/team/app/tags/1").status_code == 200
    assert client.get("/v1/repositories/team/app/tags").json.keys() == {"2", "3"}
    assert client.delete("/v1/repositories/team/app/").status_code == 200
    assert client.get("/v1/repositories/team/app/tags").status_code == 404


def test_what_is_pushed_here_counts(client: Client, registry: Registry, behind: Behind) -> None:
    """A tag pushed to this registry is only replaced by one that was pushed to the source later."""
    client.get("/v2/team/app/manifests/2")
    ours = builders.image(LAYERS["x"])
    assert push(client, ours, "1", **{"If-None-Match": "*"}).status_code == 412
    assert push(client, ours, "1").status_code == 201
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
    assert sum("failed to import" in record.message for record in caplog.records) == 1


@pytest.mark.slow
def test_a_server_takes_in_everything_in_time(behind: Behind) -> None:
    """Clients of both generations are served at once, and a process beside the server does the rest."""
    with dualreg_process(behind.data, legacy_source=behind.source) as (host, process, log):
        assert V2Client(host).pull("team/app", "3").layers == [LAYERS["a"], LAYERS["d"]]
        assert {image.layer for image in V1Client(host).pull("team/app", "1")} == {LAYERS["a"], LAYERS["b"]}
        settings = Settings(data=behind.data)
        opened = open_registry(settings)
        assert until(lambda: held(opened) == {"1", "2", "3"}), log.read_text()
        opened.close()
        behind.root.rename(behind.root.with_name("away"))
        workers = children(process.pid)
        for child in workers:
            os.kill(child, signal.SIGKILL)
        assert until(lambda: len({*children(process.pid)} - {*workers}) >= 2)
        assert V2Client(host).pull("team/app", "3").layers == [LAYERS["a"], LAYERS["d"]]
        workers += children(process.pid)
    assert until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_following(behind: Behind) -> None:
    """Passes repeat until SIGTERM; a pass that finds nothing to do leaves no journal."""
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
                registry.close()
    assert process.returncode == 0
    assert len(output.splitlines()) == len([*behind.data.glob("migrations/*.jsonl")]) == 2


@dataclass
class Pause:
    """Holds up an import before its first part is admitted."""

    begun: Event = field(default_factory=Event)
    end: Event = field(default_factory=Event)


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pause]:
    """A pause, until it is ended."""
    made, write = Pause(), Journal.write_all

    def wait(self: Journal, event: str, *steps: Any, **options: Any) -> None:
        if event in ("image", "blob"):
            made.begun.set()
            assert made.end.wait(20)
        write(self, event, *steps, **options)

    monkeypatch.setattr(Journal, "write_all", wait)
    yield made
    made.end.set()


def test_clients_who_come_at_once_get_one_image(behind: Behind, serve: Registries, pause: Pause) -> None:
    """Simultaneous requests import an image once, and the audit log records it."""
    registry = serve(behind.settings)
    with ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(client_of(registry).get, f"/v2/team/app/manifests/{tag}") for tag in ("1", "1", "2")
        ]
        assert pause.begun.wait(20)
        time.sleep(0.1)
        pause.end.set()
        assert [each.result().status_code for each in asked] == [200, 200, 200]
    tags = [line["tag"] for line in behind.journal() if line["event"] == "tag"]
    assert sorted(map(str, tags)) == ["1", "2"]
    told = [json.loads(line) for line in (behind.data / "audit.jsonl").read_text().splitlines()]
    facts = {(each["event"], each["source"], each["repository"], each["tag"]) for each in told}
    assert facts == {("import", behind.source, "team/app", tag) for tag in "12"}


def test_images_on_their_way_leave_threads_to_others(behind: Behind, serve: Registries, pause: Pause) -> None:
    """Clients beyond the limit get 429 in both dialects; what is imported already is served."""
    registry = serve(Settings(data=behind.data, legacy_source=behind.source, threads=4))
    client, old = client_of(registry), client_of(registry)
    here = push(client, builders.image(LAYERS["x"]), "here")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client_of(registry).get, "/v2/team/app/manifests/1")
        assert pause.begun.wait(20)
        busy = [client.get(f"/v2/team/app/manifests/{tag}") for tag in "12"]
        busy.append(old.get("/v1/repositories/team/app/tags/3"))
        assert [(each.status_code, each.headers["Retry-After"]) for each in busy] == [(429, "10")] * 3
        assert busy[0].json["errors"][0]["code"] == "TOOMANYREQUESTS"
        assert client.get("/v2/team/app/manifests/here").status_code == 200
        assert client.get("/v2/team/app/manifests/none").status_code == 404
        pause.end.set()
        assert first.result().status_code == 200
    assert client.get("/v2/team/app/manifests/2").status_code == 200
    assert here.status_code == 201
    assert "denied" not in (behind.data / "audit.jsonl").read_text()


@pytest.mark.parametrize("deleted", [False, True])
def test_what_happens_while_an_image_comes(
    registry: Registry, client: Client, pause: Pause, *, deleted: bool
) -> None:
    """A push or a deletion during the import of an image is kept."""
    ours = builders.image(LAYERS["x"])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client_of(registry).get, "/v2/team/app/manifests/1")
        assert pause.begun.wait(20)
        if deleted:
            assert client.delete("/v2/team/app/manifests/1").status_code == 202
        else:
            assert push(client, ours, "1").status_code == 201
        pause.end.set()
        answer = first.result()
    now = client.get("/v2/team/app/manifests/1")
    assert answer.status_code == now.status_code == (404 if deleted else 200)
    assert deleted or answer.headers["Docker-Content-Digest"] == str(ours.digest)


def _away(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    behind.root.rename(behind.root.with_name("away"))


def _failing(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def fail(self: Path, **options: bool) -> os.stat_result:
        if self.is_relative_to(behind.root):
            raise OSError(errno.EIO, "the disk is broken", str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", fail)


def test_lost_tags_are_logged(behind: Behind, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """A tag that cannot be read is not found, and the log says why, but not for each request."""
    folder = behind.root / "docker/registry/v2/repositories/team/app/_manifests/tags/1/current/link"
    file = behind.root / "repositories/team/app/tag_1" if behind.is_v1 else folder
    file.write_bytes(bytes(64))
    for _ in range(2):
        assert client.get("/v2/team/app/manifests/1").status_code == 404
    assert client.get("/v1/repositories/team/app/tags/1").status_code == 404
    assert set(client.get("/v1/repositories/team/app/tags").json) == {"2", "3"}
    assert client.delete("/v2/team/app/manifests/3").status_code == 202
    assert "1" not in listed(client)
    (reason,) = {each.getMessage() for each in caplog.records if "failed to import" in each.message}
    assert reason.startswith(f"failed to import 1 of team/app from {behind.source}: corrupt: team/app:1: ")
    assert len([each for each in caplog.records if "failed to import" in each.message]) == 1


@pytest.mark.parametrize("trouble", [_away, _failing])
@pytest.mark.parametrize("before", [False, True])
def test_a_source_in_trouble_is_empty(
    behind: Behind,
    serve: Registries,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[Behind, pytest.MonkeyPatch], None],
    *,
    before: bool,
) -> None:
    """Imported images are served when the source fails, at the start or later; the log says so once."""
    if before:
        trouble(behind, monkeypatch)
    registry = serve(behind.settings)
    client = client_of(registry)
    assert client.get("/v2/team/app/manifests/1").status_code == (404 if before else 200)
    push(client, builders.image(LAYERS["x"]), "here")
    push(client, builders.image(LAYERS["y"]), "gone")
    if not before:
        trouble(behind, monkeypatch)
    assert client.delete("/v2/team/app/manifests/gone").status_code == 202
    here = ["here"] if before else ["1", "here"]
    assert listed(client) == here
    assert [*client.get("/v1/repositories/team/app/tags").json] == here
    image = client.get("/v1/repositories/team/app/tags/here").json
    token = session(client)
    assert client.get(f"/v1/images/{image}/json", headers=token).status_code == 200
    assert client.get(f"/v1/images/{'f' * 64}/json", headers=token).status_code == 404
    for missing in ("manifests/2", f"manifests/sha256:{'0' * 64}"):
        assert client.get(f"/v2/team/app/{missing}").status_code == 404
    assert client.get("/v2/short/tags/list").status_code == 404
    assert sum("treating it as empty" in record.message for record in caplog.records) == 1
    if trouble is _away:
        registry.repositories.delete(RepositoryName("team/app"))
        behind.root.with_name("away").rename(behind.root)
        assert client.get("/v2/short/manifests/latest").status_code == 200
        assert client.get("/v2/team/app/manifests/1").status_code == 404


def test_names_that_no_file_system_takes(
    behind: Behind, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Names that a file system cannot have are unknown, and cause no error."""
    name = "team/" + "/".join("b" * 60)
    for path in (f"v2/{name}/tags/list", f"v2/{name}/manifests/1", f"v1/repositories/{name}/tags"):
        assert client.get(path).status_code == 404
    assert client.delete(f"/v2/{name}/manifests/1").status_code == 404
    assert not [each for each in caplog.records if each.name.startswith("dualreg.migrate")]
    assert not behind.journal()


def test_without_a_journal_nothing_comes(
    behind: Behind, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what is wrong, and imported images are served."""
    (behind.data / "migrations").touch()
    push(client, builders.image(LAYERS["x"]), "here")
    for _ in range(2):
        assert client.get("/v2/team/app/manifests/1").status_code == 404
    assert client.get("/v2/team/app/manifests/here").status_code == 200
    told = [each.getMessage() for each in caplog.records if each.name.startswith("dualreg.migrate")]
    assert [str(behind.data / "migrations") in each for each in told] == [True]


def test_asking_for_nothing_leaves_nothing(
    behind: Behind, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """No line in a journal or a log, and no repository."""
    client.delete("/v2/team/app/manifests/1")
    for number in range(3):
        for reference in ("1", "9", f"sha256:{number:064x}"):
            for name in ("team/app", "nobody/made/this"):
                assert client.get(f"/v2/{name}/manifests/{reference}").status_code == 404
        assert client.get(f"/v2/team/app/referrers/sha256:{number:064x}").json["manifests"] == []
    assert not [each for each in caplog.records if each.name.startswith("dualreg.migrate")]
    assert not behind.journal()
    assert client.get("/v2/_catalog").json["repositories"] == []


@pytest.mark.slow
def test_deletions_last(behind: Behind, client: Client, registry: Registry) -> None:
    """A deleted manifest with all tags of its image, or a deleted repository, is not imported again."""
    behind.push("also", "b", PAST)
    digest = client.get("/v2/team/app/manifests/1").headers["Docker-Content-Digest"]
    image = client.get("/v1/repositories/team/app/tags/1").json
    assert client.delete(f"/v2/team/app/manifests/{digest}").status_code == 202
    command(behind.data, f"run {behind.source} --existing newer --include team/app:*", code=None)
    for reference in ("1", "also", digest):
        assert client.get(f"/v2/team/app/manifests/{reference}").status_code == 404
    assert listed(client) == ["2", "3"]
    token = session(client)
    # What old clients pushed stays until its repository goes.
    pushed = client.get(f"/v1/images/{image}/json", headers=token).status_code
    assert pushed == (200 if behind.is_v1 else 404)
    other = client.get("/v2/team/app/manifests/2").headers["Docker-Content-Digest"]
    image = client.get("/v1/repositories/team/app/tags/2").json
    registry.repositories.delete(RepositoryName("team/app"))
    command(behind.data, f"run {behind.source} --existing newer --include team/app:*", code=None)
    for reference in ("2", "3", other):
        assert client.get(f"/v2/team/app/manifests/{reference}").status_code == 404
    assert client.get(f"/v1/images/{image}/json", headers=token).status_code == 404
    assert client.get("/v2/_catalog").json["repositories"] == []
    behind.push("4", "e", int(time.time()) + 5)
    assert listed(client) == ["4"]
    assert layers_of(client, "4") == [LAYERS["a"], LAYERS["e"]]


@pytest.mark.slow
def test_what_is_pushed_over_a_tag_hides_it(behind: Behind, serve: Registries) -> None:
    """Also from those who cannot see what was pushed."""
    client = client_of(serve(behind.settings))
    image = builders.image(LAYERS["x"], architecture="arm64")
    assert push(client, image, str(image.digest)).status_code == 201
    index = builders.index(image, architectures=["arm64"])
    kind = {"Content-Type": json.loads(index)["mediaType"]}
    assert client.put("/v2/team/app/manifests/1", data=index, headers=kind).status_code == 201
    assert client.get("/v1/repositories/team/app/tags").json.keys() == {"2", "3"}
    assert client.get("/v1/repositories/team/app/tags/1").status_code == 406
    apart = serve(Settings(data=behind.data / "apart", legacy_source=behind.source, bridge="off"))
    old, new = client_of(apart), client_of(apart)
    assert push(new, builders.image(LAYERS["x"]), "1").status_code == 201
    seen = {"2", "3"} if behind.is_v1 else set()
    tags = old.get("/v1/repositories/team/app/tags")
    assert {*(tags.json if tags.status_code == 200 else ())} == seen
    assert listed(new) == (["1"] if behind.is_v1 else ["1", "2", "3"])
    assert held(apart) == {"1"}
    hidden = "/v2/team/app/manifests/2" if behind.is_v1 else "/v1/repositories/team/app/tags/2"
    assert new.get(hidden).status_code == 404
    assert held(apart) == {"1"}


def test_repositories_that_are_not_here_yet(client: Client) -> None:
    """The extension knows repositories that are not imported yet, but not their tags."""
    assert client.get("/v2/team/app/_dualreg/tags").json == {"name": "team/app", "tags": []}
    assert client.get("/v2/team/app/_dualreg/tags?sort=-pushed&prefix=x").json["tags"] == []
    assert client.get("/v2/team/none/_dualreg/tags").status_code == 404


def test_what_is_here_costs_no_look_at_files(
    behind: Behind, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists read none of the source, and deletions the one of their tag."""
    command(behind.data, f"run {behind.source}")
    read: list[Path] = []
    opened = Path.open

    def note(self: Path, *given: object, **named: object) -> object:
        if self.is_relative_to(behind.root):
            read.append(self)
        return opened(self, *given, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", note)
    assert listed(client) == ["1", "2", "3"]
    assert client.get("/v1/repositories/team/app/tags").json.keys() == {"1", "2", "3"}
    assert client.get("/v1/repositories/team/app/images").status_code == 200
    assert not read
    assert client.delete("/v2/team/app/manifests/2").status_code == 202
    assert not [path for path in read if "2" not in path.as_posix().removeprefix(str(behind.root))]


def test_pages_of_tags_read_what_is_on_them(
    behind: Behind, client: Client, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page reads no tags of the source unless some were deleted, and then only as many as it needs."""
    read: list[str] = []
    monkeypatch.setattr(TreeLookup, "tag", _noted(TreeLookup.tag, read))
    assert client.get("/v2/team/app/tags/list?n=1").json["tags"] == ["1"]
    assert client.get("/v2/team/app/tags/list?n=1&last=3").json["tags"] == []
    assert registry.repositories.resolve(RepositoryName("library/team/app")) == "team/app"
    assert registry.tags.describe(RepositoryName("team/app"), limit=9).rows == ()
    assert read == []
    assert client.delete("/v2/team/app/manifests/1").status_code == 202
    read.clear()
    for tag in "456":
        behind.push(tag, "e", PAST)
    assert client.get("/v2/team/app/tags/list?n=1").json["tags"] == ["2"]
    assert read == ["1", "2", "3"]
    assert client.get("/v2/team/app/tags/list?n=2&last=2").json["tags"] == ["3", "4"]
    assert read[3:] == ["3", "4", "5"]
    assert registry.tags.describe(RepositoryName("team/app"), limit=9).rows == ()
    assert read[6:] == ["1", "2"]
    assert client.get("/v2/team/app/tags/list?last=6").json["tags"] == []
    for tag in "23456":
        assert client.delete(f"/v2/team/app/manifests/{tag}").status_code == 202
    assert listed(client) == []


def _noted(asked: Callable[..., Any], read: list[str]) -> Callable[..., Any]:
    """Return the same, recording the tags that are looked up."""

    def note(self: TreeLookup, repository: str, tag: str) -> object:
        read.append(tag)
        return asked(self, repository, tag)

    return note


class Forgetful(LRUCache[str, str | None]):
    """Forgets all at once, as if another thread had needed the room just then."""

    def __setitem__(self, key: str, value: str | None) -> None:
        """Take it, and forget it."""
        super().__setitem__(key, value)
        self.clear()


def test_parents_that_are_forgotten_at_once(tmp_path: Path) -> None:
    """Who makes room takes nothing from those who have just read it."""
    tree = Tree(tmp_path / "old")
    base = tree.image("base", LAYERS["a"])
    top = tree.image("top", LAYERS["b"], parent=tree.image("middle", LAYERS["c"], parent=base))
    assert TreeLookup(OnDemandV1Tree(tree.root), _parents=Forgetful(9)).is_ancestor(base, [top])


@pytest.mark.parametrize("mode", ["readonly", "off"])
def test_whatever_is_served_of_v1(behind: Behind, serve: Registries, mode: str) -> None:
    """Each V1 endpoint serves images of the source."""
    client = client_of(serve(behind.settings), behind.settings.model_copy(update={"v1": mode}))
    assert listed(client) == ["1", "2", "3"]
    assert layers_of(client, "1") == [LAYERS["a"], LAYERS["b"]]
    tags = client.get("/v1/repositories/team/app/tags")
    assert tags.status_code == (404 if mode == "off" else 200)


@pytest.fixture
def old(tmp_path: Path) -> Behind:
    """A source of V1 images with three tags."""
    made = _v1(tmp_path)
    for tag, letter in (("1", "b"), ("2", "c"), ("3", "d")):
        made.push(tag, letter, PAST)
    return made


def test_the_configuration_of_the_old_registry(old: Behind, serve: Registries, tmp_path: Path) -> None:
    """Names the source as well as its storage does."""
    old.push("1", "b", PAST)
    config = tmp_path / "config.yml"
    config.write_text(f"dev:\n  storage: local\n  storage_path: {old.root}\n")
    settings = Settings(data=old.data, legacy_source=f"v1-tree:{config}")
    assert client_of(serve(settings)).get("/v2/team/app/manifests/1").status_code == 200


def test_old_clients_push_on_what_is_not_here_yet(old: Behind, serve: Registries) -> None:
    """A V1 push finds its base images in the source, which are imported; other images stay unknown."""
    client = client_of(serve(old.settings))
    image = client.get("/v1/repositories/team/app/tags").json["1"]
    begun = client.put("/v1/repositories/team/app/", data="[]", headers={"X-Docker-Token": "true"})
    token = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
    other = client.put("/v1/repositories/team/other/", data="[]", headers={"X-Docker-Token": "true"})
    foreign = {"Authorization": f"Token {other.headers['X-Docker-Token']}"}
    assert client.get(f"/v1/images/{image}/json", headers=foreign).status_code == 404
    assert client.get(f"/v1/images/{image}/json", headers=token).status_code == 200
    put = client.put("/v1/repositories/team/app/tags/new", data=json.dumps(image), headers=token)
    assert put.status_code == 200
    assert layers_of(client, "new") == [LAYERS["a"], LAYERS["b"]]


def test_layers_that_are_here_are_not_read_again(old: Behind, serve: Registries) -> None:
    """A layer in the store is not read again if a checksum of the source proves that it is the same."""
    command(old.data, f"run {old.source} --include team/app:1")
    base = next(path for path in old.root.rglob("layer") if path.read_bytes() == LAYERS["a"])
    base.write_bytes(bytes(len(LAYERS["a"])))
    assert layers_of(client_of(serve(old.settings)), "2") == [LAYERS["a"], LAYERS["c"]]


@pytest.fixture
def stock(tmp_path: Path) -> StockTree:
    """A tree of manifests, empty."""
    return StockTree(tmp_path / "stock")


@pytest.fixture
def beside(stock: StockTree, tmp_path: Path) -> Behind:
    """It, behind a registry."""
    return Behind(tmp_path / "data", f"registry-tree:{stock.root}", lambda *_: None)


@pytest.mark.slow
def test_a_digest_is_of_its_repository_alone(
    stock: StockTree, beside: Behind, serve: Registries, tmp_path: Path
) -> None:
    """Who may read one repository gets nothing of another's, though all keep their bytes in one place."""
    secret = builders.image(LAYERS["x"])
    private = stock.image("private/secret", secret, "1")
    public = stock.image("public/app", builders.image(LAYERS["a"]))
    child = builders.image(LAYERS["b"])
    stock.image("public/lost", child)
    index = stock.manifest("public/lost", builders.index(child), "1")
    for digest in (index, child.digest):
        (stock.revision("public/lost", digest) / "link").unlink()
        stock.revision("public/lost", digest).rmdir()
    stock.layer("public/app", builders.index(secret))  # pushed as a blob, which nobody has looked into
    lines = tmp_path / "lines"
    lines.write_text("anonymous public/* pull\nalice private/* pull\n")
    settings = Settings(data=beside.data, legacy_source=beside.source, auth="accounts", permissions=lines)
    registry = serve(settings)
    client = client_of(registry, settings)
    for name in ("public/app", "public/made-up", "public/lost"):
        for digest in (private, Digest.of(builders.index(secret))):
            assert client.get(f"/v2/{name}/manifests/{digest}").status_code == 404
        for digest in secret.blobs:
            assert client.get(f"/v2/{name}/blobs/{digest}").status_code == 404
    assert client.get(f"/v2/private/secret/manifests/{private}").status_code == 401
    with registry.state.catalog.read() as tx:
        assert [*tx.repositories.walk(last="", limit=9)] == []
    assert client.get(f"/v2/public/app/manifests/{public}").status_code == 200
    for digest in (child.digest, index):
        assert client.get(f"/v2/public/lost/manifests/{digest}").status_code == 200


def test_signatures_come_with_their_image(stock: StockTree, beside: Behind, serve: Registries) -> None:
    """Signatures are imported on request; a deleted one only after another push to the source."""
    client = client_of(serve(beside.settings))
    image = stock.image("team/app", builders.image(LAYERS["a"]), "1")
    signature = stock.manifest("team/app", referrer(image))
    stock.manifest("team/other", referrer(Digest.of(b"something else")))

    def about(digest: Digest) -> list[str]:
        found = client.get(f"/v2/team/app/referrers/{digest}").json["manifests"]
        return [each["digest"] for each in found]

    assert client.get("/v2/team/app/manifests/1").status_code == 200
    assert about(image) == [str(signature)]
    upon = stock.manifest("team/app", referrer(signature))
    assert about(signature) == [str(upon)]
    assert client.delete(f"/v2/team/app/manifests/{upon}").status_code == 202
    command(beside.data, f"run {beside.source} --existing newer", code=None)
    assert about(signature) == []
    later = time.time() + 5
    os.utime(stock.revision("team/app", upon) / "link", (later, later))
    assert about(signature) == [str(upon)]


def test_deleting_what_is_not_here_yet(stock: StockTree, beside: Behind, serve: Registries) -> None:
    """A manifest deleted by digest before its import is never imported, nor is any of its tags."""
    client = client_of(serve(beside.settings))
    digest = stock.image("team/app", builders.image(LAYERS["a"]), "1", "2")
    stock.image("team/app", builders.image(LAYERS["b"]), "3")
    wrong = {"If-Match": f"sha256:{'0' * 64}"}
    assert client.delete("/v2/team/app/manifests/3", headers=wrong).status_code == 412
    assert client.delete(f"/v2/team/app/manifests/{digest}").status_code == 202
    for reference in ("1", "2", digest):
        assert client.get(f"/v2/team/app/manifests/{reference}").status_code == 404
    assert client.delete(f"/v2/team/app/manifests/{digest}").status_code == 404
    assert listed(client) == ["3"]


def test_in_place(stock: StockTree, serve: Registries) -> None:
    """The source is this registry's own storage, so what is deleted in one is deleted in the other."""
    tags = {"1": "a", "2": "b", "3": "c"}
    digests = [stock.image("team/app", builders.image(LAYERS[each]), tag) for tag, each in tags.items()]
    client = client_of(serve(Settings(data=stock.root, legacy_source=f"registry-tree:{stock.root}")))
    assert listed(client) == ["1", "2", "3"]
    assert client.head("/v2/team/app/manifests/1").headers["Docker-Content-Digest"] == str(digests[0])
    push(client, builders.image(LAYERS["x"]), "new")
    assert client.delete("/v2/team/app/manifests/2").status_code == 202
    assert client.delete(f"/v2/team/app/manifests/{digests[0]}").status_code == 202
    assert client.delete(f"/v2/team/app/manifests/{digests[2]}").status_code == 202
    assert listed(client) == ["new"]
    for reference in (*tags, digests[0], digests[2]):
        assert client.get(f"/v2/team/app/manifests/{reference}").status_code == 404
    assert not (stock.revision("team/app", digests[2]) / "link").exists()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["v1-tree:/nowhere", "oci-layout:/x", "docker-archive:/x"])
def test_no_legacy_source(tmp_path: Path, source: str) -> None:
    """One readable line, and no server."""
    env = {**environment(), "DUALREG_LEGACY_SOURCE": source}
    line = [DUALREG, "serve", "--data", tmp_path / "data", "--bind", "127.0.0.1:0"]
    done = subprocess.run([*map(str, line)], env=env, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0
    assert "legacy_source" in done.stderr.lower()
    assert done.stderr.count("\n") == 1

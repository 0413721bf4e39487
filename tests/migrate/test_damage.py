"""One file of this registry is lost or damaged: each command judges each tag, and none ends with an error."""

import json
import logging
import lzma
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result
from werkzeug.serving import make_server

from dualreg.assembly import open_registry
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import Survey
from dualreg.migrate.selection import Selection, make_plan
from dualreg.migrate.transports import SourceOptions, survey_source
from dualreg.migrate.verify import verify
from dualreg.migrate.verify_http import HttpComparison
from dualreg.registry import Registry
from dualreg.remote.client import Client
from dualreg.settings import Settings
from tests import builders
from tests.apps import application, client_of
from tests.migrate.commands import command, export
from tests.migrate.stock_trees import LAYERS, small
from tests.migrate.trees import LAYERS as V1_LAYERS
from tests.migrate.trees import Tree

pytestmark = pytest.mark.slow

#: What a crash, a full disk or a bad one leaves of a file.
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "lost": lambda _: None,
    "cut": lambda content: content[:-3],
    "empty": lambda _: b"",
    "zeros": lambda content: bytes(len(content)),
    "flipped": lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
}
_TAGS = ("old/one:1", "team/app:latest", "team/old:1", "team/old:2", "team/other:1")
_EXPORT, _REPAIR, _ROLLBACK = range(3)
_TARGETS = ("registry-tree", "oci-layout", "docker-archive", "static-tree")


@dataclass(frozen=True)
class Stocked:
    """A registry that has all of two sources, with what it made of them for the other generation.

    Attributes:
        found: What is in the sources.
        users: The tags that need each blob, for clients of either generation.
        derived: The JSONs of V1 images that were made of manifests.
    """

    data: Path
    sources: tuple[str, str]
    found: tuple[Survey, ...]
    users: Mapping[Path, frozenset[str]]
    derived: frozenset[Path]

    def copy(self, data: Path) -> None:
        """Make a copy that shares its blobs; damage replaces them."""
        shutil.copytree(self.data, data, copy_function=_link)


def _link(source: str, target: str) -> None:
    if "/docker/registry/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    """V1 images, one with a layer that was compressed again; images, an index, a signature; schema 1."""
    folder = tmp_path_factory.mktemp("stocked")
    tree, old, data = small(folder / "stock"), Tree(folder / "old"), folder / "data"
    tree.schema1("old/one", "1", LAYERS["f"], LAYERS["g"])
    base = old.image("base", lzma.compress(builders.tar({"x": b"x" * 600})))
    for tag in "12":
        old.tag("team/old", tag, old.image(tag, V1_LAYERS["abc"[int(tag)]], parent=base))
    sources = (f"registry-tree:{tree.root}", f"v1-tree:{old.root}")
    for source in sources:
        command(data, f"run {source}")
    registry = open_registry(Settings(data=data))
    client = client_of(registry)
    for name in ("team/app", "team/other", "old/one"):
        assert client.get(f"/v1/repositories/{name}/tags").json
    modern = {"Accept": media_types.DOCKER_MANIFEST}
    assert client.get("/v2/old/one/manifests/1", headers=modern).status_code == 200
    users, derived = _users(registry), {*_derived(registry)}
    registry.close()
    found = tuple(survey_source(source, SourceOptions()) for source in sources)
    return Stocked(data, sources, found, users, frozenset(derived))


def _users(registry: Registry) -> Mapping[Path, frozenset[str]]:
    """Return the tags that need each blob, as the catalog has them."""
    users: dict[Path, set[str]] = {}
    for name in registry.repositories.list(last="", limit=99).rows:
        for tag in registry.tags.list_all(name):
            for digest in _blobs(registry, name, tag):
                if path := registry.blobs.path(digest):
                    users.setdefault(path, set()).add(f"{name}:{tag}")
    return {path: frozenset(tags) for path, tags in users.items()}


def _blobs(registry: Registry, name: RepositoryName, tag: Tag) -> Iterator[Digest]:
    row = registry.manifests.find(name, tag)
    yield from (blob.digest for blob in registry.manifests.reachable_blobs(name, row.digest))
    if signed := registry.manifests.signed(row):
        yield signed.digest
    for image in registry.v1_images.ancestry(name, registry.bridge.resolve(name, tag)):
        yield image.json
        if image.layer:
            yield image.layer


def _derived(registry: Registry) -> Iterator[Path]:
    for name in registry.repositories.list(last="", limit=99).rows:
        for image in registry.v1_images.list(name):
            row = registry.v1_images.get(name, image)
            if row.checksum is None and (path := registry.blobs.path(row.json)):
                yield path


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep requests, and how they fail, out of reports."""
    caplog.set_level(logging.ERROR, "werkzeug")
    caplog.set_level(logging.CRITICAL, "dualreg")


@contextmanager
def _served(data: Path) -> Iterator[tuple[Registry, str]]:
    """Serve the registry from this process; yield it, and its URL."""
    registry = open_registry(Settings(data=data))
    server = make_server("127.0.0.1", 0, application(registry, Settings(data=data)), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield registry, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        registry.close()


def _damaged(stocked: Stocked, folder: Path, file: Path, damage: str) -> Path:
    """Return a copy of the registry in which a file is damaged."""
    data = folder / "data"
    stocked.copy(data)
    content, copied = file.read_bytes(), data / file.relative_to(stocked.data)
    copied.unlink()
    left = DAMAGES[damage](content)
    if left is not None:
        copied.write_bytes(left)
    return data


def _wrong(stocked: Stocked, data: Path) -> set[str]:
    """Return the tags that a comparison finds fault with, in the store and over HTTP."""
    wrong = set[str]()
    with _served(data) as (registry, url):
        for found in stocked.found:
            entries = make_plan(found, Selection(library=found.default_library))
            inner = found.comparison(registry, quick=False)
            client = Client(url, repeat_failed=False)
            verdicts = verify(HttpComparison(registry, inner, client, quick=False), entries, 2)
            wrong |= {verdict.entry.name for verdict in verdicts if verdict.problems}
    return wrong


def _told(result: Result) -> Mapping[str, str]:
    """Return the status of each tag in the report of a run or an export, whose exit status is right."""
    status = {each["tag"]: each["status"] for each in json.loads(result.stdout)["tags"]}
    whole = [each in ("done", "same") for each in status.values()]
    assert result.exit_code == (0 if all(whole) else 1 if any(whole) else 3)
    return status


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_blobs(stocked: Stocked, tmp_path: Path, damage: str) -> None:
    """The tags that need a blob are named, the others leave, a run repairs, and a rollback removes.

    Each blob has three of the damages, and one of the commands after each.
    """
    files = [*stocked.users]
    assert len(files) > 20
    for number, file in enumerate(files, [*DAMAGES].index(damage)):
        step = number % len(DAMAGES)
        if step > _ROLLBACK:
            continue
        folder, needed = tmp_path / str(number), stocked.users[file]
        data = _damaged(stocked, folder, file, damage)
        assert (file.read_bytes()[:99], _wrong(stocked, data)) == (file.read_bytes()[:99], needed)
        if step == _EXPORT:
            _export(data, folder, needed, number)
        elif step == _REPAIR:
            _repair(stocked, data, file)
        else:
            _roll_back(data)
        shutil.rmtree(folder)


def _export(data: Path, folder: Path, needed: frozenset[str], number: int) -> None:
    """Only the damaged tags stay here."""
    target = _TARGETS[number % len(_TARGETS)]
    status = _told(export(data, f"{target}:{folder / target} --json", code=None))
    failed = {tag for tag, each in status.items() if each == "failed"}
    assert failed <= needed
    assert status == {tag: "failed" if tag in failed else "done" for tag in _TAGS}


def _repair(stocked: Stocked, data: Path, file: Path) -> None:
    """What a source has, or is made of that, is there again; what was derived for V1 clients may not be."""
    for source in stocked.sources:
        _told(command(data, f"run {source} --json"))
    repaired = data / file.relative_to(stocked.data)
    whole = repaired.is_file() and repaired.read_bytes() == file.read_bytes()
    signed = (
        b'"signatures"' in file.read_bytes()
    )  # a client that asked for it made the registry sign it again
    assert whole or signed or file in stocked.derived, file.read_bytes()


def _roll_back(data: Path) -> None:
    """No document is needed to remove what was imported."""
    runs = sorted((path.stem for path in (data / "migrations").glob("*.jsonl")), reverse=True)
    results = [json.loads(command(data, f"rollback {run} --json").stdout) for run in runs]
    assert sum(each["tags"] for each in results) == len(_TAGS)
    assert all(each["kept"] == [] for each in results)


#: A link file of each kind: what it is a part of the path of, and the tags that are lost without it.
_LINKS = {
    "_layers/": "team/other",
    "_manifests/revisions/": "team/other",
    "signed": "old/one",
    "_manifests/tags/": "team/other",
    "_v1/": "team/old",
}


@pytest.mark.parametrize("kind", _LINKS)
def test_damaged_links(stocked: Stocked, tmp_path: Path, kind: str) -> None:
    """Requests and runs do without them; where the tree is a source, each tag comes or is named."""
    repositories = stocked.data / "docker/registry/v2/repositories"
    links = [path for path in (repositories / _LINKS[kind]).rglob("*") if path.is_file()]
    file = min(path for path in links if kind in str(path))
    for damage in DAMAGES:
        folder = tmp_path / damage
        data = _damaged(stocked, folder, file, damage)
        if damage == "zeros":
            assert _wrong(stocked, data) == set()
        for source in stocked.sources:
            assert {*_told(command(data, f"run {source} --json")).values()} == {"same"}
        told = _told(command(folder / "other", f"run registry-tree:{data} --json", code=None))
        told = {tag: status for tag, status in told.items() if "@" not in tag}  # a signature comes along
        lost = {tag for tag, status in told.items() if status != "done"}
        assert {tag.partition(":")[0] for tag in lost} <= {_LINKS[kind]}
        if kind == "_manifests/tags/":
            assert len(told) == len(_TAGS) - (damage == "lost")
            assert len(lost) == (damage != "lost")
        else:
            assert told.keys() == {*_TAGS}
        _roll_back(data)
        shutil.rmtree(folder)

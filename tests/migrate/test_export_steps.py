"""Exports of many tags: few waits and statements, whole files only, and what is left when one is killed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import open_registry
from dualreg.catalog.database import Transaction
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.migrate.export import Export, entries_to_export
from dualreg.migrate.names import Names
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.targets.base import Target
from dualreg.migrate.targets.new_files import NewFiles, Rank, StagingFolder
from dualreg.migrate.targets.oci_layout import OciLayoutTarget
from dualreg.migrate.targets.registry_tree import RegistryTreeTarget
from dualreg.migrate.targets.static_tree import StaticTreeTarget
from dualreg.migrate.transfer import LinkMode
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.whole import WholeFileSystem
from tests import builders
from tests.migrate.commands import command, export, killed_each_time
from tests.migrate.stock_trees import StockTree
from tests.soak import short_or_long

SCHEMES = ("registry-tree", "oci-layout", "static-tree")
#: Waits of an export that fits into a step: for bytes, blobs, what names these, and tags, which a layout has
#: in its index; of a static tree, for those of its references and lists, too.
WAITS = {"registry-tree": 4, "oci-layout": 3, "static-tree": 14}


def filled(folder: Path, tags: int) -> Path:
    """Make a registry with so many tags, each with a layer of its own; return its data folder."""
    tree = StockTree(folder)
    for number in range(tags):
        tree.image("team/app", builders.image(builders.layer({"a": f"{number}".encode()})), f"{number}")
    command(folder, f"run registry-tree:{folder}")
    return folder


def opened_target(scheme: str, place: Path, registry: Registry) -> Target:
    """Return a target below *place*."""
    if scheme == "registry-tree":
        return RegistryTreeTarget(place, LinkMode.COPY, registry.blobs)
    if scheme == "static-tree":
        return StaticTreeTarget(place, registry)
    return OciLayoutTarget(place, ["team/app"])


def exported(registry: Registry, target: Target) -> list[Outcome]:
    """Export all tags; return what became of them."""
    try:
        return [*Export(registry, target).export_all([*entries_to_export(registry, Names())], jobs=1)]
    finally:
        target.close()


def incomplete(place: Path) -> list[str]:
    """Return the files of a tree or layout that are not what their names say, or name what is not there."""
    if (place / "v1").exists():
        return [*incomplete_v1(place / "v1"), *incomplete_v2(place / "v2"), *dangling(place)]
    blobs, found = dict[str, bytes](), list[str]()
    for path in place.rglob("blobs/sha256/**/*"):
        if path.is_file():
            digest = path.name if path.name != "data" else path.parent.name
            blobs[f"sha256:{digest}"] = path.read_bytes()
    found += [digest for digest, data in blobs.items() if str(Digest.of(data)) != digest]
    named = [path.read_text() for path in place.rglob("link") if "repositories" in path.parts]
    if (index := place / "index.json").exists():
        named += [entry["digest"] for entry in json.loads(index.read_bytes())["manifests"]]
    for data in blobs.values():
        if data.startswith(b"{") and b'"layers"' in data and b'"rootfs"' not in data:
            document = json.loads(data)
            named += [document["config"]["digest"], *(each["digest"] for each in document["layers"])]
    return found + [digest for digest in named if digest not in blobs]


def incomplete_v2(root: Path) -> list[str]:
    """Return the manifests and blobs of a static tree that ``incomplete`` returns."""
    found = list[str]()
    for path in root.glob("**/blobs/*:*"):
        found += [f"{path}"] if str(Digest.of(path.read_bytes())) != path.name else []
    for path in root.glob("**/manifests/[!.]*"):
        data = path.read_bytes()
        document, digest = json.loads(data), str(Digest.of(data))
        named = [document["config"]["digest"], *(each["digest"] for each in document["layers"])]
        files = [path.with_name(digest), *(path.parent.parent / "blobs" / each for each in named)]
        found += [f"{path}: {file}" for file in files if not file.is_file()]
        found += [f"{path}"] if ":" in path.name and digest != path.name else []
    return found


def incomplete_v1(root: Path) -> list[str]:
    """Return the V1 images of a static tree that ``incomplete`` returns."""
    found = list[str]()
    for path in root.glob("repositories/**/tags/[!i]*"):
        for image in json.loads((root / "images" / json.loads(path.read_bytes()) / "ancestry").read_bytes()):
            document = json.loads((root / "images" / image / "json").read_bytes())
            layer = root / "images" / image / "layer"
            found += [f"{path}: {image}"] if document["id"] != image or not layer.stat().st_size else []
    return found


def dangling(place: Path) -> list[str]:
    """Return what the lists and references of a static tree name that nginx does not find."""
    found = [f"{link}" for link in place.glob("nginx/**/_references/*") if not (link / "manifest").is_file()]
    for path in place.glob("v2/**/tags/list"):
        listed = json.loads(path.read_bytes())
        references = place / "nginx" / listed["name"] / "_references"
        found += [f"{path}: {tag}" for tag in listed["tags"] if not (references / tag).exists()]
    return found


def files_of(place: Path) -> dict[str, bytes]:
    """Return the files and symbolic links of a tree or layout, but for files without names; not its path."""
    return {
        f"{path.relative_to(place)}": (
            f"{path.readlink()}".encode()
            if path.is_symlink()
            else path.read_bytes().replace(f"{place}".encode(), b"")
        )
        for path in sorted(place.rglob("*"))
        if (path.is_file() or path.is_symlink()) and path.relative_to(place).parts[0] != "uploads"
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "stride"), [("registry-tree", 23), ("oci-layout", 11), ("static-tree", 31)]
)
def test_killed_at_waits_for_the_disk(tmp_path: Path, scheme: str, stride: int) -> None:
    """Nothing is ever named that is not whole; another export completes it, and leaves nothing else."""
    data = filled(tmp_path / "data", 2)
    export(data, f"{scheme}:{tmp_path / 'whole'}")
    whole, kills = files_of(tmp_path / "whole"), 0

    def arguments(place: Path) -> list[str]:
        return ["export", f"{scheme}:{place}", "--jobs", "1", "--data", f"{data}"]

    for place in killed_each_time("disk", tmp_path, arguments, short_or_long(stride, 1)):
        kills += 1
        assert incomplete(place) == []
        export(data, f"{scheme}:{place}")
        assert files_of(place) == whole
    assert kills >= 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_many_tags_take_the_waits_and_statements_of_one(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are, in one step."""
    counts = []
    for tags in (2, 20):
        registry = open_registry(Settings(data=filled(tmp_path / f"{tags}", tags)))
        waits, reads, read = list[object](), list[Transaction](), registry.state.catalog.read

        @contextmanager
        def counted(
            read: Any = read, reads: list[Transaction] = reads, **options: Any
        ) -> Iterator[Transaction]:
            with read(**options) as tx:
                reads.append(tx)
                yield tx

        monkeypatch.setattr(registry.state.catalog, "read", counted)
        monkeypatch.setattr(WholeFileSystem, "sync", lambda whole, waits=waits: waits.append(whole) or True)
        monkeypatch.setattr("dualreg.migrate.export._GROUPS", 1)
        monkeypatch.setattr("dualreg.storage.waits._MANY", 1)
        outcomes = exported(registry, opened_target(scheme, tmp_path / f"to {tags}", registry))
        assert {each.status for each in outcomes} == {Status.DONE}
        counts.append((len(waits), len(reads)))
        registry.close()
    assert counts[0] == counts[1]
    assert counts[0][0] == WAITS[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tag_without_a_place_fails_alone(tmp_path: Path, scheme: str) -> None:
    """What is in the way of one file keeps no other tag from being exported."""
    data, place = filled(tmp_path / "data", 3), tmp_path / "place"
    layer = Digest.of(builders.layer({"a": b"1"}))
    if scheme == "registry-tree":
        taken = place / "docker/registry/v2/blobs/sha256" / layer.hex[:2] / layer.hex
    elif scheme == "static-tree":
        taken = place / "v2/team/app/blobs" / f"{layer}" / "folder"
    else:
        taken = place / "blobs/sha256" / layer.hex / "folder"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"")
    registry = open_registry(Settings(data=data))
    outcomes = exported(registry, opened_target(scheme, place, registry))
    registry.close()
    assert [each.status for each in outcomes] == [Status.DONE, Status.FAILED, Status.DONE]
    assert "read or write failed" in outcomes[1].reason
    taken.unlink()
    if scheme == "static-tree":
        taken.parent.rmdir()
        assert json.loads((place / "v2/team/app/tags/list").read_bytes())["tags"] == ["0", "2"]
    if scheme == "oci-layout":
        taken.parent.rmdir()
        names = [each["annotations"] for each in json.loads((place / "index.json").read_bytes())["manifests"]]
        assert {each["org.opencontainers.image.ref.name"] for each in names} == {"0", "2"}
    assert "2 same, 1 done" in export(data, f"{scheme}:{place}").output
    assert incomplete(place) == []


def test_names_come_in_the_order_of_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank is on the disk before the next one has a name; what has none is removed."""
    staging, seen = StagingFolder(tmp_path), list[set[str]]()

    def note() -> set[str]:
        return {path.name for path in tmp_path.rglob("*.x")}

    monkeypatch.setattr(NewFiles, "wait", lambda _: seen.append(note()))
    with NewFiles(staging) as files:
        for rank in (Rank.TAG, Rank.BLOB, Rank.MANIFEST):
            files.write(tmp_path / f"in/{rank}.x", [b"content"], rank)
        assert files.staged(tmp_path / "in/0.x")
        files.name()
    assert seen == [set(), {"0.x"}, {"0.x", "1.x"}, {"0.x", "1.x", "2.x"}]
    with NewFiles(staging) as files:
        files.write(tmp_path / "lost.x", [b"content"], Rank.BLOB)
    assert not [*Path(staging.path()).iterdir()]
    staging.close()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_killed_exports_left_is_removed(tmp_path: Path) -> None:
    """And nothing of those that run, nor of others."""
    left, other = tmp_path / f".export-{UploadId.new()}", tmp_path / ".export-of-mine"
    running, fresh = StagingFolder(tmp_path), StagingFolder(tmp_path)
    used = Path(running.path())
    for folder in (left, other):
        folder.mkdir()
        (folder / "file").write_bytes(b"")
    assert {Path(fresh.path()), used, other} == {*tmp_path.iterdir()}
    running.close()
    fresh.close()
    assert [*tmp_path.rglob("*")] == [other, other / "file"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_export_to_the_working_directory(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same as to its full name."""
    data, place = filled(tmp_path / "data", 1), tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    assert "1 done" in export(data, f"{scheme}:.").output
    assert incomplete(place) == []
    assert "1 same" in export(data, f"{scheme}:{place}").output


@pytest.mark.parametrize("scheme", SCHEMES)
def test_manifests_that_are_not_remembered(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repositories share what may be remembered; what does not fit is read again."""
    monkeypatch.setattr("dualreg.migrate.export.REMEMBERED", 0)
    registry = open_registry(Settings(data=filled(tmp_path / "data", 2)))
    outcomes = exported(registry, opened_target(scheme, tmp_path / "place", registry))
    registry.close()
    assert [each.status for each in outcomes] == [Status.DONE] * 2
    assert incomplete(tmp_path / "place") == []

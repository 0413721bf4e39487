"""Targets write files completely, durably and only at their paths, several exports at a time."""

import io
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR

import pytest

from dualreg.assembly import open_registry
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.saved.importer import config_of
from dualreg.migrate.targets import files
from dualreg.migrate.targets.tar_file import TarFile
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.migrate.commands import command, export
from tests.migrate.trees import EMPTY_23, LAYERS, Tree, image_id
from tests.properties.registries import push_v2
from tests.protocol.clients.schema1 import push_chain


def test_archives_of_one_name_at_once(tmp_path: Path) -> None:
    """Each archive is complete, the last one remains, and no link beside it is followed."""
    place, other = tmp_path / "images.tar", tmp_path / "other"
    other.write_bytes(b"kept")
    (tmp_path / ".images.tar.part").symlink_to(other)
    tars = [TarFile(place, io.BytesIO()) for _ in range(3)]
    for number, tar in enumerate(tars):
        tar.add(f"name-{number}", b"content")
    for number, tar in enumerate(tars[:2]):
        tar.finish()
        tar.discard()
        with tarfile.open(place) as archive:
            assert archive.getnames() == [f"name-{number}"]
    tars[2].discard()
    with tarfile.open(place) as archive:
        assert archive.getnames() == ["name-1"]
    assert other.read_bytes() == b"kept"
    assert {path.name for path in tmp_path.iterdir()} == {".images.tar.part", "images.tar", "other"}


def test_long_names(tmp_path: Path) -> None:
    """What a file may be called, it can be written as."""
    place = tmp_path / ("\N{EARTH GLOBE EUROPE-AFRICA}" * 63)
    files.write(place, [b"content"])
    tar = TarFile(place, io.BytesIO())
    tar.add("name", b"content")
    tar.finish()
    with tarfile.open(place) as archive:
        assert archive.getnames() == ["name"]


@pytest.mark.parametrize("kind", ["file", "tar"])
def test_files_outlast_power_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A file is on the disk before it is where it is wanted; then its place is, in all its folders."""
    synced, fsync = list[tuple[str, bool]](), os.fsync

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(tmp_path):  # a found folder is synced in its place, too
            name = str(path.relative_to(tmp_path)) if S_ISDIR(os.fstat(descriptor).st_mode) else ""
            synced.append((name, place.exists()))
        fsync(descriptor)

    place = tmp_path / ("new/folder/file" if kind == "file" else "file")
    monkeypatch.setattr(os, "fsync", note)
    if kind == "file":
        files.write(place, [b"content"])
        assert synced == [(".", False), ("new", False), ("", False), ("new/folder", True)]
    else:
        tar = TarFile(place, io.BytesIO())
        tar.add("name", b"content")
        tar.finish()
        assert synced == [("", False), (".", True)]


def test_a_pipe_that_nothing_goes_into(opened: Registry, data: Path, tmp_path: Path) -> None:
    """The reader of a pipe gets the end of file and nothing that would pass for an archive."""
    opened.manifests.put(RepositoryName("team/any"), Tag("1"), "application/x.test+json", b'{"a": 1}')
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cat = shutil.which("cat")
    assert cat
    with subprocess.Popen([cat, pipe], stdout=subprocess.PIPE) as reader:
        try:
            assert "1 failed" in export(data, f"docker-archive:{pipe}", code=3).stderr
            assert reader.communicate(timeout=10) == (b"", None)
        finally:
            reader.kill()
    assert pipe.is_fifo()


def test_archives_of_no_bytes_get_their_end(tmp_path: Path, data: Path) -> None:
    """Docker 0.6 to 1.2 pushed such layers, which 0.7 to 1.9 do not load; the config's stay."""
    tree = Tree(tmp_path / "old")
    base = tree.image("base", LAYERS["a"])
    tree.tag("team/app", "1", tree.image("top", EMPTY_23, parent=base))
    tree.tag("team/empty", "1", tree.image("only", EMPTY_23))
    command(data, f"run v1-tree:{tree.root}")
    export(data, f"docker-archive:{tmp_path / 'a.tar'}")
    with tarfile.open(tmp_path / "a.tar") as archive:
        sizes = {seed: archive.getmember(f"{image_id(seed)}/layer.tar").size for seed in ("top", "only")}
    assert sizes == {"top": 1024, "only": 0}
    command(tmp_path / "again", f"run docker-archive:{tmp_path / 'a.tar'}")


def test_archives_need_no_v1_view(data: Path, opened: Registry, tmp_path: Path) -> None:
    """Images that V1 clients cannot use are exported as all others are, and no view is derived for it."""
    name, signed = RepositoryName("team/app"), builders.v1_chain(LAYERS["c"])
    images = {
        "linux": builders.image(LAYERS["a"], LAYERS["b"]),
        "windows": builders.image(LAYERS["a"], os="windows"),
        "zstd": builders.zstd_image(LAYERS["a"]),
    }
    for tag, image in images.items():
        push_v2(opened, name, Tag(tag), image)
    push_chain(opened, name, "good", signed)
    push_chain(opened, name, "taken", [replace(signed[0], layer=LAYERS["d"])])
    export(data, f"docker-archive:{tmp_path / 'a.tar'}")
    assert opened.v1_images.list(name) == (signed[0].id,)  # which the conversion of schema 1 derives
    again = tmp_path / "again"
    command(again, f"run docker-archive:{tmp_path / 'a.tar'}")
    registry = open_registry(Settings(data=again))
    found = {tag: registry.manifests.find(name, tag).digest for tag in registry.tags.list_all(name)}
    configs = {tag: config_of(registry, name, digest) for tag, digest in found.items()}
    registry.close()
    assert configs.keys() == {*images, "good", "taken"}
    for tag, image in images.items():
        assert configs[Tag(tag)] == str(Digest.of(image.config))

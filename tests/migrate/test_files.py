"""Imports of OCI layouts, and of what ``docker save`` of each release wrote."""

import gzip
import io
import json
import os
import sys
import tarfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.sources.references import split_reference
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.builders import Image
from tests.migrate.commands import command, content

zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

APP = RepositoryName("team/app")


def layout(folder: Path, *named: tuple[Image, str | None]) -> Path:
    """Write an OCI layout of images, each with its name."""
    entries = []
    for image, name in named:
        for data in (*image.blobs.values(), image.manifest):
            path = folder / "blobs/sha256" / Digest.of(data).hex
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        annotations = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
        entries.append(builders.descriptor(image.media_type, image.manifest, **annotations))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return folder


def archive(path: Path, members: Mapping[str, bytes | str], *, packed: bool = False) -> Path:
    """Write a tar of *members*; a text is where a link leads."""
    with tarfile.open(path, "w:gz" if packed else "w") as out:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                out.addfile(member)
            else:
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    return path


def saved(path: Path, *named: tuple[Image, list[str]], packed: bool = False) -> Path:
    """Write what Docker 1.10 and later save: a layer that two images share is a link in the second."""
    members: dict[str, bytes | str] = {}
    entries = []
    for number, (image, tags) in enumerate(named):
        config = f"{Digest.of(image.config).hex}.json"
        members[config] = image.config
        names = []
        for layer in image.layers:
            plain = gzip.decompress(layer)
            name = f"{number}-{Digest.of(plain).hex}/layer.tar"
            first = next((old for old, data in members.items() if data == plain), None)
            members[name] = f"../{first}" if first else plain
            names.append(name)
        entries.append({"Config": config, "RepoTags": tags or None, "Layers": names})
    members["manifest.json"] = json.dumps(entries).encode()
    return archive(path, members, packed=packed)


def test_layouts(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Names of every sort; digests stay."""
    images = [
        builders.image(builders.layer({"a": str(number).encode()}), oci=number != 1) for number in range(4)
    ]
    names = ["1", "team/app:two", "registry.example:5000/team/app:three", None]
    source = f"oci-layout:{layout(tmp_path / 'box', *zip(images, names, strict=True))}"
    assert "1 untagged" in command(data, f"inspect {source}", code=1).output
    command(data, f"run {source}")
    places = [("box", "1"), ("team/app", "two"), ("team/app", "three")]
    for image, (name, tag) in zip(images, places, strict=False):
        assert opened.manifests.find(RepositoryName(name), Tag(tag)).digest == image.digest
    assert command(data, f"verify {source}").output.startswith("3 of 3")
    only = f"oci-layout:{layout(tmp_path / 'only', (images[3], None))} --repository {APP}"
    command(data, f"run {only}")
    assert opened.manifests.find(APP, Tag("latest")).digest == images[3].digest


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("index.json", "[]"), ("index.json", "{"), ("index.json", "[" * 100_000),
        ("index.json", '{"manifests": 1}'),
        ("oci-layout", None), ("index.json", None),
    ],
)  # fmt: skip
def test_no_layout(tmp_path: Path, data: Path, file: str, text: str | None) -> None:
    """One readable line."""
    folder = layout(tmp_path / "box", (builders.image(builders.layer({})), "1"))
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    assert command(data, f"run oci-layout:{folder}", code=2).output.count("\n") == 1
    assert content(data) == {}


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_saved_images(tmp_path: Path, data: Path, opened: Registry, packed: bool) -> None:  # noqa: FBT001 -- a case
    """The config is the one that was saved, so the image keeps its id; layers are gzip of the same files."""
    base = builders.layer({"base": b"1" * 5000})
    images = [builders.image(base), builders.image(base, builders.layer({"top": b"2"}), author="x")]
    named = ((images[0], ["team/app:1", "team/app:2"]), (images[1], ["host:5000/team/app:3"]))
    path = saved(tmp_path / "images.tar", *named, packed=packed)
    source = f"docker-archive:{path}"
    assert command(data, f"inspect {source} --deep").exit_code == 0
    command(data, f"run {source}")
    once = content(data)
    digests = [opened.manifests.find(APP, Tag(tag)).digest for tag in "123"]
    assert digests[0] == digests[1]
    for tag, image in (("1", images[0]), ("3", images[1])):
        row = opened.manifests.find(APP, Tag(tag))
        manifest = json.loads(opened.manifests.payload(row))
        assert row.media_type == media_types.DOCKER_MANIFEST
        assert manifest["config"]["digest"] == str(Digest.of(image.config))
        for layer, pushed in zip(manifest["layers"], image.layers, strict=True):
            with opened.blobs.open(Digest.parse(layer["digest"])) as reader:
                assert gzip.decompress(reader.read()) == gzip.decompress(pushed)
    assert client_of(opened).get("/v1/repositories/team/app/tags").json.keys() == {"1", "2", "3"}
    assert command(data, f"verify {source}").output.startswith("3 of 3")
    assert "3 same" in command(data, f"run {source}").output
    command(tmp_path / "again", f"run {source} --jobs 7")
    assert content(tmp_path / "again") == once
    for run in reversed([path.stem for path in sorted((data / "migrations").glob("*.jsonl"))]):
        command(data, f"rollback {run}")
    assert content(data) == {}


def test_zstd(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Layers in zstd, as newer Docker stores keep them, and archives in zstd can be imported."""
    image = builders.image(builders.layer({"a": b"1" * 5000}))
    plain = gzip.decompress(image.layers[0])
    entry = {"Config": "blobs/sha256/c", "RepoTags": ["team/app:1"], "Layers": ["blobs/sha256/l"]}
    members: dict[str, bytes | str] = {
        "blobs/sha256/c": image.config, "blobs/sha256/l": zstd.compress(plain),
        "manifest.json": json.dumps([entry]).encode(),
    }  # fmt: skip
    path = archive(tmp_path / "images.tar", members)
    path.write_bytes(zstd.compress(path.read_bytes()))
    source = f"docker-archive:{path}"
    assert command(data, f"inspect {source} --deep").exit_code == 0
    command(data, f"run {source}")
    assert command(data, f"verify {source}").output.startswith("1 of 1")
    manifest = json.loads(opened.manifests.payload(opened.manifests.find(APP, Tag("1"))))
    assert manifest["config"]["digest"] == str(Digest.of(image.config))
    with opened.blobs.open(Digest.parse(manifest["layers"][0]["digest"])) as reader:
        assert gzip.decompress(reader.read()) == plain
    members["blobs/sha256/l"] = zstd.compress(plain)[:-9]
    cut = f"docker-archive:{archive(tmp_path / 'cut.tar', members)}"
    assert "is truncated" in command(tmp_path / "other", f"run {cut}", code=3).output


def test_saved_images_without_tags(tmp_path: Path, data: Path, opened: Registry) -> None:
    """The only image is the latest one, in a repository that is called like the file."""
    image = builders.image(builders.layer({"a": b"1"}))
    command(data, f"run docker-archive:{saved(tmp_path / 'tool.tar', (image, []))}")
    assert opened.manifests.find(RepositoryName("tool"), Tag("latest"))
    path = saved(tmp_path / "two.tar", (image, []), (builders.image(builders.layer({"b": b"2"})), []))
    assert "untagged images with --untagged" in command(data, f"run docker-archive:{path}", code=2).output
    assert "2 done" in command(data, f"run docker-archive:{path} --untagged").output


def test_damaged_archives(tmp_path: Path, data: Path, opened: Registry) -> None:
    """The image that lacks something is named, and the others are imported."""
    good, bad = builders.image(builders.layer({"a": b"1"})), builders.image(builders.layer({"b": b"2"}))
    members: dict[str, bytes | str] = {
        "good.json": good.config, "good.tar": gzip.decompress(good.layers[0]),
        "bad.json": bad.config, "bad.tar": gzip.decompress(good.layers[0]),
        "manifest.json": json.dumps(
            [
                {"Config": "good.json", "RepoTags": ["team/app:good"], "Layers": ["good.tar"]},
                {"Config": "bad.json", "RepoTags": ["team/app:bad"], "Layers": ["bad.tar"]},
                {"Config": "./bad.json", "RepoTags": ["team/app:few"], "Layers": []},
                {"Config": "absent.json", "RepoTags": ["team/app:absent"], "Layers": []},
                {"Config": None, "RepoTags": ["team/app:none"], "Layers": None},
            ]
        ).encode(),
    }  # fmt: skip
    source = f"docker-archive:{archive(tmp_path / 'mixed.tar', members)}"
    output = command(data, f"run {source}", code=1).output
    assert "team/app:bad" in output
    assert "its diff ID is" in output or "layers, but" in output
    assert "team/app:absent: skipped: no-layer: absent.json" in output
    assert "team/app:none: skipped: corrupt: manifest.json: its entry names no config" in output
    assert opened.manifests.find(APP, Tag("good"))
    for text in (b"no archive", b""):
        (tmp_path / "none.tar").write_bytes(text)
        assert command(data, f"run docker-archive:{tmp_path / 'none.tar'}", code=2).output.count("\n") == 1
    os.mkfifo(tmp_path / "pipe.tar")
    assert "not a regular file" in command(data, f"run docker-archive:{tmp_path / 'pipe.tar'}", code=2).output


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"digest": "sha256:12"}, "team/app:2"),
        ({"digest": None}, "team/app:2"),
        ({"size": "large"}, "team/app:2"),
        ({"annotations": None, "digest": 1}, "layout"),
        (None, "layout"),
    ],
)
def test_damaged_layouts(tmp_path: Path, data: Path, members: Mapping[str, object] | None, name: str) -> None:
    """An entry of the index that is no descriptor is skipped, and the others are imported."""
    image = builders.image(builders.layer({"a": b"1"}))
    folder = layout(tmp_path / "layout", (image, "team/app:1"), (image, "team/app:2"))
    index = json.loads((folder / "index.json").read_text())
    index["manifests"][1] = None if members is None else index["manifests"][1] | members
    (folder / "index.json").write_text(json.dumps(index))
    output = command(data, f"run oci-layout:{folder}", code=1).output
    assert f"{name}: skipped: corrupt: invalid entry of the index: " in output
    assert "1 done" in output


@pytest.mark.slow
def test_what_the_first_daemons_saved(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Docker 0.7 to 1.9: V1 images keep their ids and JSONs."""
    chain = builders.v1_chain(builders.layer({"a": b"1"}), builders.layer({"b": b"2"}))
    members: dict[str, bytes | str] = {}
    for image in chain:
        members |= {
            f"{image.id}/VERSION": b"1.0",
            f"{image.id}/json": image.json,
            f"{image.id}/layer.tar": gzip.decompress(image.layer),
        }
    only = f"docker-archive:{archive(tmp_path / 'only.tar', members)} --repository only"
    command(data, f"run {only}")
    assert opened.bridge.resolve(RepositoryName("only"), Tag("latest")) == chain[-1].id
    members["broken/json"] = b"{"
    alone = f"docker-archive:{archive(tmp_path / 'broken.tar', members)} --repository alone"
    assert "corrupt: broken" in command(data, f"inspect {alone}", code=1).output
    command(data, f"run {alone}")
    assert opened.bridge.resolve(RepositoryName("alone"), Tag("latest")) == chain[-1].id
    members["repositories"] = json.dumps({"team/app": {"1": chain[-1].id, "base": chain[0].id}}).encode()
    source = f"docker-archive:{archive(tmp_path / 'old.tar', members)}"
    command(data, f"run {source}")
    assert command(data, f"verify {source}").output.startswith("2 of 2")
    assert [opened.bridge.resolve(APP, Tag(tag)) for tag in ("base", "1")] == [image.id for image in chain]
    rows = opened.v1_images.ancestry(APP, ImageId(chain[-1].id))
    assert [opened.v1_images.json(row) for row in rows] == [image.json for image in chain[::-1]]
    manifest = json.loads(opened.manifests.payload(opened.manifests.find(APP, Tag("1"))))
    assert manifest["mediaType"] == media_types.DOCKER_MANIFEST
    assert "2 same" in command(data, f"run {source}").output


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1", ("box", "1")),
        ("app:1", ("app", "1")),
        ("team/app", ("team/app", "latest")),
        ("localhost/app:1", ("app", "1")),
        ("localhost:5000/a/b:1", ("a/b", "1")),
        ("docker.io/library/busybox:latest", ("library/busybox", "latest")),
        ("127.0.0.1:5000/app", ("app", "latest")),
    ],
)
def test_references(text: str, place: tuple[str, str]) -> None:
    """Hosts are left out, ports are no tags."""
    assert split_reference(text, "box") == place


@pytest.mark.parametrize(
    ("members", "size"), [(1, 2 << 20), (30, 3 << 18)], ids=["one huge name", "many long names"]
)
def test_archives_of_names_are_refused(tmp_path: Path, data: Path, members: int, size: int) -> None:
    """What a header may add to memory is bounded, for one member and for all together."""
    with tarfile.open(tmp_path / "names.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as out:
        for number in range(members):
            out.addfile(tarfile.TarInfo(f"{number}".ljust(size, "x")))
    output = command(data, f"run docker-archive:{tmp_path / 'names.tar.gz'}", code=2).output
    assert "not a tar archive" in output
    assert output.count("\n") == 1

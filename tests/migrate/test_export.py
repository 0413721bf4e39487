"""Exports are complete, keep digests, and send nothing twice."""

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.jws import SigningKey, sign
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.export import Export, entries_to_export
from dualreg.migrate.names import Names
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.targets.docker_archive import DockerArchiveTarget
from dualreg.migrate.targets.static_tree import StaticTreeTarget
from dualreg.migrate.targets.tar_file import TarFile
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.migrate import stock_trees
from tests.migrate.commands import command, content, export, snapshot
from tests.migrate.trees import Tree
from tests.properties.registries import push_v2

TARGETS = {
    "registry-tree": "tree", "oci-layout": "layout", "docker-archive": "images.tar", "static-tree": "static",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with images of every sort: V1, schema 1, schema 2, OCI, indexes, signatures."""
    folder = tmp_path_factory.mktemp("built")
    old = Tree(folder / "old")
    base = old.image("base", stock_trees.LAYERS["a"])
    old.tag("team/old", "1", old.image("top", stock_trees.LAYERS["b"], parent=base))
    command(folder / "data", f"run v1-tree:{old.root}")
    stock_trees.small(folder / "stock")
    tree = stock_trees.StockTree(folder / "stock")
    tree.schema1("team/one", "1", stock_trees.LAYERS["c"], stock_trees.LAYERS["d"])
    tree.image(
        "team/oci", builders.image(stock_trees.LAYERS["a"], stock_trees.LAYERS["e"], oci=True), "1", "2"
    )
    command(folder / "data", f"run registry-tree:{folder / 'stock'}")
    return folder / "data"


@pytest.fixture
def filled(built: Path, data: Path) -> Path:
    """A copy of that registry."""
    shutil.copytree(built, data)
    return data


@pytest.fixture
def registry(filled: Path) -> Iterator[Registry]:
    """That one."""
    prepare(Settings(data=filled))
    opened = open_registry(Settings(data=filled))
    yield opened
    opened.close()


@pytest.mark.parametrize("scheme", TARGETS)
def test_everything_leaves_once(filled: Path, tmp_path: Path, scheme: str) -> None:
    """An export changes nothing in this registry but derived documents; a second one sends nothing."""
    place = tmp_path / TARGETS[scheme]
    told = export(filled, f"{scheme}:{place} --dry-run").output
    assert "6 tags would be exported" in told
    assert not place.exists()
    output = export(filled, f"{scheme}:{place} --jobs 3").output
    assert "6 done" in output
    assert "at most" not in output
    assert "Next:" in output
    first = snapshot(place) if place.is_dir() else place.read_bytes()
    if scheme != "docker-archive":
        assert "6 same" in export(filled, f"{scheme}:{place}").output
        assert snapshot(place) == first
    else:
        export(filled, f"{scheme}:{place} --jobs 1")
        assert place.read_bytes() == first


@pytest.mark.parametrize("scheme", TARGETS)
def test_what_registry_3_does_not_serve(
    filled: Path, registry: Registry, tmp_path: Path, scheme: str
) -> None:
    """Of a tree, tags of schema 1 and of unknown types are named, each time; elsewhere they are converted."""
    name, other = RepositoryName("team/other"), "application/vnd.oci.artifact.manifest.v1+json"
    payload = json.dumps({"mediaType": other, "artifactType": "application/x", "blobs": []}).encode()
    registry.manifests.put(name, Tag("artifact"), other, payload)
    expected = {"team/one:1": "schema 1", "team/other:artifact": other} if scheme == "registry-tree" else {}
    for _ in range(2):
        line = f"{scheme}:{tmp_path / TARGETS[scheme]}"
        unserved = json.loads(export(filled, f"{line} --json", code=None).stdout)["unserved"]
        assert {each["tag"]: each["reason"] for each in unserved} == {
            tag: f"registry 3 does not serve {kind}" for tag, kind in expected.items()
        }
        output = export(filled, line, code=None).output
        assert ("team/one:1: same: registry 3 does not serve schema 1\n" in output) == bool(expected)


@pytest.mark.parametrize("scheme", TARGETS)
def test_schema1_is_converted(filled: Path, registry: Registry, tmp_path: Path, scheme: str) -> None:
    """Of a tree if that is wanted, elsewhere always: both digests are reported, each time."""
    name, tag = RepositoryName("team/one"), Tag("1")
    line = f"{scheme}:{tmp_path / TARGETS[scheme]} --convert schema1 --include team/one"
    documents = [json.loads(export(filled, f"{line} --json").stdout) for _ in range(2)]
    (converted,), (again,) = (document["converted"] for document in documents)
    old, new = registry.manifests.find(name, tag), Digest.parse(converted["to"])
    made = registry.manifests.find(name, new)
    assert converted == again == {"tag": "team/one:1", "from": str(old.digest), "to": str(new)}
    assert made.media_type == (
        media_types.OCI_MANIFEST if scheme == "oci-layout" else media_types.DOCKER_MANIFEST
    )
    assert documents[0]["unserved"] == []
    assert documents[1]["counts"] == {"done" if scheme == "docker-archive" else "same": 1}
    assert (
        f"team/one:1: {'done' if scheme == 'docker-archive' else 'same'}: {old.digest} converted to {new}\n"
        in (export(filled, line).output)
    )
    assert registry.manifests.find(name, tag).digest == old.digest


def test_schema1_that_cannot_be_converted(filled: Path, registry: Registry, tmp_path: Path) -> None:
    """It is not written, and the rest is."""
    name, layer = RepositoryName("team/one"), stock_trees.LAYERS["c"][:-9]
    registry.uploads.ingest(name, [layer])
    body = sign(stock_trees.schema1_payload(name, "2", layer), SigningKey.generate(), registry.now())
    registry.manifests.put(name, Tag("2"), media_types.SCHEMA1_SIGNED, body)
    line = f"registry-tree:{tmp_path / 'tree'} --convert schema1 --include team/one"
    output = export(filled, line, code=1).output
    assert "team/one:2: failed: no-place: team/one:2: schema 1 that cannot be converted\n" in output
    assert "1 failed" in output
    assert "1 done" in output


@pytest.mark.parametrize("link", ["auto", "hard", "copy"])
def test_round_trip_by_a_tree(filled: Path, tmp_path: Path, link: str) -> None:
    """An exported tree, imported elsewhere, has the same blobs, manifests, tags and referrers."""
    export(filled, f"registry-tree:{tmp_path / 'tree'} --link {link}")
    command(tmp_path / "again", f"run registry-tree:{tmp_path / 'tree'}")
    v1 = "docker/registry/v2/repositories/team/old/"  # JSONs of V1 images stay here
    links = [
        {path for path in content(data) if path.endswith("/link") and not path.startswith(v1)}
        for data in (filled, tmp_path / "again")
    ]
    assert links[0] == links[1]
    layer = stock_trees.StockTree(tmp_path / "tree").data(Digest.of(stock_trees.LAYERS["e"]))
    assert (layer.stat().st_nlink > 1) == (link == "hard")


@pytest.mark.parametrize("scheme", ["oci-layout", "docker-archive"])
def test_round_trip_by_files(filled: Path, registry: Registry, tmp_path: Path, scheme: str) -> None:
    """Digests stay in a layout; images keep their ids in an archive."""
    place = tmp_path / TARGETS[scheme]
    export(filled, f"{scheme}:{place}")
    command(tmp_path / "again", f"run {scheme}:{place}")
    again = open_registry(Settings(data=tmp_path / "again"))
    for name, tag in (("team/oci", "1"), ("team/oci", "2"), ("team/old", "1"), ("team/app", "latest")):
        place_ = (RepositoryName(name), Tag(tag))
        ours, theirs = registry.manifests.find(*place_), again.manifests.find(*place_)
        if scheme == "oci-layout" and name == "team/oci":
            assert ours.digest == theirs.digest
        assert config_of(registry, *place_) == config_of(again, *place_)
    again.close()


def config_of(registry: Registry, name: RepositoryName, tag: Tag) -> str:
    """Return the digest of an image's config."""
    row = registry.manifests.image_of(name, registry.manifests.find(name, tag))
    assert row
    return str(json.loads(registry.manifests.payload(row))["config"]["digest"])


def test_archives_of_every_generation(filled: Path, registry: Registry, tmp_path: Path) -> None:
    """Old daemons find V1 images with the ids that they know."""
    export(filled, f"docker-archive:{tmp_path / 'images.tar'} --include team/old:*")
    with tarfile.open(tmp_path / "images.tar") as archive:
        names = archive.getnames()
        listed = json.loads(archive.extractfile("repositories").read())  # type: ignore[union-attr]  # it is a file
    id_ = registry.bridge.resolve(RepositoryName("team/old"), Tag("1"))
    assert listed == {"team/old": {"1": id_}}
    assert {f"{id_}/{name}" for name in ("VERSION", "json", "layer.tar")} <= {*names}
    piped = CliRunner().invoke(
        main, ["export", "docker-archive:-", "--include", "team/old:*", "--data", str(filled)]
    )
    assert piped.stdout_bytes == (tmp_path / "images.tar").read_bytes()


def test_archives_hold_what_old_clients_are_not_shown(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge setting, which hides tags from clients, does not hide them from archives."""
    export(filled, f"docker-archive:{tmp_path / 'shown.tar'}")
    monkeypatch.setenv("DUALREG_BRIDGE", "off")
    export(filled, f"docker-archive:{tmp_path / 'hidden.tar'}")
    assert (tmp_path / "hidden.tar").read_bytes() == (tmp_path / "shown.tar").read_bytes()


@pytest.mark.slow
def test_archives_go_where_they_are_wanted(filled: Path, tmp_path: Path) -> None:
    """An archive is written into an existing pipe and to the target of a link; neither is replaced."""
    pipe, link, place = tmp_path / "pipe", tmp_path / "link.tar", tmp_path / "images.tar"
    os.mkfifo(pipe)
    link.symlink_to(place)
    export(filled, f"docker-archive:{link}")
    assert link.is_symlink()
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_bytes)
        told = export(filled, f"docker-archive:{pipe}")
        assert read.result(timeout=30) == place.read_bytes()
    assert pipe.is_fifo()
    call = [
        sys.executable,
        "-c",
        "from dualreg.cli import main; main()",
        "export",
        "docker-archive:/dev/stdout",
    ]
    piped = subprocess.run([*call, "--data", filled], capture_output=True, check=True)
    assert piped.stdout == place.read_bytes()
    assert "done" in told.stderr
    assert not told.stdout


def test_archives_that_cannot_be_written(filled: Path, tmp_path: Path) -> None:
    """A full disk ends the export with a line, sooner or later."""
    told = export(filled, "docker-archive:/dev/full", code=2).output
    assert told.splitlines()[-1] == "Error: /dev/full: No space left on device"
    tree = stock_trees.StockTree(tmp_path / "more")
    tree.image("team/large", builders.image(builders.layer({"large": os.urandom(1 << 18)})), "1")
    command(filled, f"run registry-tree:{tree.root}")
    told = export(filled, "docker-archive:/dev/full --include team/large", code=2).output
    assert told == "Error: /dev/full: No space left on device\n"


def test_an_archive_ends_early_when_asked(registry: Registry, tmp_path: Path) -> None:
    """A stopped archive contains every tag reported as exported; tags are reported after they are written."""
    stop, told = Event(), list[Status]()

    def tell(outcome: Outcome) -> None:
        told.append(outcome.status)
        stop.set()

    place = tmp_path / "images.tar"
    target = DockerArchiveTarget(TarFile(place, sys.stdout.buffer), registry, stop)
    Export(registry, target, stop, tell).export_all([*entries_to_export(registry, Names())], jobs=4)
    assert told == [Status.DONE, *[Status.STOPPED] * 5]
    with tarfile.open(place) as archive:
        (entry,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]  # it is a file
    assert entry["RepoTags"] == ["team/app:latest"]


def test_damage_keeps_a_tag_here(filled: Path, tmp_path: Path) -> None:
    """A damaged image is named and leaves nothing at the target; other images are exported."""
    ours = stock_trees.StockTree(filled)
    path = ours.data(Digest.of(stock_trees.LAYERS["e"]))
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    lost = ours.data(Digest.of(stock_trees.LAYERS["c"]))
    lost.unlink()
    told = json.loads(export(filled, f"registry-tree:{tmp_path / 'tree'} --json", code=1).stdout)
    failed = {each["tag"] for each in told["tags"] if each["status"] == "failed"}
    assert failed == {"team/oci:1", "team/oci:2", "team/one:1"}
    target = stock_trees.StockTree(tmp_path / "tree")
    assert not target.data(Digest.of(stock_trees.LAYERS["e"])).exists()
    assert not (target.v2 / "repositories/team/oci/_manifests").exists()
    export(filled, f"registry-tree:{tmp_path / 'other'} --include team/o*", code=1)
    export(filled, f"registry-tree:{tmp_path / 'third'} --include team/oci:*", code=3)


def test_choosing(filled: Path, tmp_path: Path) -> None:
    """Globs choose by names."""
    export(filled, f"oci-layout:{tmp_path / 'layout'} --include team/oci:* --exclude *:2")
    assert names_in(tmp_path / "layout") == ["1"]


def names_in(layout: Path) -> list[str]:
    """Return what the entries of a layout are called."""
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    return sorted(entry["annotations"].get("org.opencontainers.image.ref.name", "") for entry in entries)


def test_layouts_keep_repositories_apart(filled: Path, tmp_path: Path) -> None:
    """Tags are named alone while only one repository was ever in a layout; no other's is replaced."""
    place = tmp_path / "layout"
    for include, names in (
        ("team/oci:1", ["1"]),
        ("team/oci", ["1", "2"]),
        ("team/old", ["1", "2", "team/old:1"]),
        ("team/oci", ["team/oci:1", "team/oci:2", "team/old:1"]),
    ):
        export(filled, f"oci-layout:{place} --include {include}")
        assert names_in(place) == names
    index = json.loads((place / "index.json").read_text())
    foreign = {**index["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "2"}}
    (place / "index.json").write_text(json.dumps({**index, "manifests": [foreign]}))
    export(filled, f"oci-layout:{place} --include team/oci")
    assert names_in(place) == ["2", "team/oci:1", "team/oci:2"]


def test_tags_about_an_image_leave_with_it(filled: Path, opened: Registry) -> None:
    """As cosign names its signatures, and clients their lists of referrers; unless they are excluded."""
    name = RepositoryName("team/app")
    top = opened.manifests.find(name, Tag("latest"))
    child = opened.manifests.image_of(name, top)
    assert child

    def put(tag: str) -> Digest:
        image = builders.image(stock_trees.LAYERS["b"], oci=True, author=tag)
        opened.uploads.ingest(name, [image.config])
        opened.manifests.put(name, Tag(tag), image.media_type, image.manifest)
        return image.digest

    tags = [f"sha256-{top.digest.hex}.sig", f"sha256-{child.digest.hex}.att"]
    tags.append(f"sha256-{put(tags[0]).hex}")
    for tag in (*tags[1:], f"sha256-{Digest.of(b'other').hex}.sig", "sha256-short.sig"):
        put(tag)
    told = export(filled, "registry-tree:out --include team/app:latest --dry-run").output
    assert {*told.splitlines()} == {
        "4 tags would be exported.",
        *(f"{name}:{tag}" for tag in (*tags, "latest")),
    }
    told = export(filled, "registry-tree:out --include team/app:latest --exclude *:*.att --dry-run").output
    assert "3 tags would be exported" in told


@pytest.mark.parametrize("include", ["", "--include team/*", "--include team/app"])
def test_what_is_about_an_image_leaves_by_a_layout(
    filled: Path, opened: Registry, tmp_path: Path, include: str
) -> None:
    """Attachments are exported even if their subject gets another digest, and can be imported again."""
    name, place = RepositoryName("team/app"), tmp_path / "layout"
    ours = opened.manifests.find(name, Tag("latest"))
    docker = opened.manifests.image_of(name, ours)
    assert docker
    about = [stock_trees.referrer(docker.digest), stock_trees.referrer(ours.digest)]
    for each in (*about, stock_trees.referrer(Digest.of(about[0]))):  # as a signature of a bill of materials
        opened.manifests.put(name, Digest.of(each), "", each)
    export(filled, f"oci-layout:{place} {include}")
    command(tmp_path / "again", f"run oci-layout:{place}")
    again = open_registry(Settings(data=tmp_path / "again"))
    top = again.manifests.find(name, Tag("latest"))
    image = again.manifests.image_of(name, top)
    assert image
    assert top.digest != ours.digest
    (below,) = again.referrers.list(name, image.digest).rows
    assert len(again.referrers.list(name, below.digest).rows) == 1
    assert len(again.referrers.list(name, top.digest).rows) == len(
        opened.referrers.list(name, ours.digest).rows
    )
    again.close()


@pytest.mark.parametrize(
    "target",
    [
        "registry-tree:{data}",
        "nonsense:x",
        "v2+http://127.0.0.1:1/Bad",
        "v2+http://127.0.0.1:1/bad/../name",
        *(f"{each}:{{data}}/catalog.sqlite3" for each in ("registry-tree", "oci-layout", "static-tree")),
        "docker-archive:{data}/no/images.tar",
        "docker-archive:{data}",
        *(f"{each}:" for each in TARGETS),
        *(f"{each}:{{data}}/out --include no/such" for each in TARGETS),
    ],
)
def test_no_target(filled: Path, target: str) -> None:
    """One readable line."""
    before = content(filled)
    output = export(filled, target.format(data=filled), code=2).output
    assert len(output.strip().splitlines()) == 1, output
    assert content(filled) == before
    assert not (filled / "out").exists()


def served(place: Path) -> dict[str, tuple[str, ...]]:
    """Return what a static tree tells of each tag, on either face and by each of its servers' files."""
    told, configured = {}, (place / "nginx.conf").read_text()
    for repository in json.loads((place / "v2/_catalog").read_text())["repositories"]:
        folder = place / "v2" / repository
        for tag in json.loads((folder / "tags/list").read_text())["tags"]:
            digest = str(Digest.of((folder / "manifests" / tag).read_bytes()))
            reference = (place / "nginx" / repository / "_references" / tag).resolve()
            assert reference.name == digest
            assert (reference / "manifest").read_bytes() == (folder / "manifests" / tag).read_bytes()
            assert f'<Files "{tag}">' in (folder / "manifests/.htaccess").read_text()
            listed = json.loads((place / "v1/repositories" / repository / "tags/index.json").read_text())
            image = (place / "v1/repositories" / repository / "tags" / tag).read_text()
            assert listed[tag] == json.loads(image)
            assert f'"/v1/images/{listed[tag]}/json"' in configured
            told[f"{repository}:{tag}"] = (digest, image)
    return told


def test_static_trees_grow(filled: Path, tmp_path: Path) -> None:
    """What was served is served after other exports into the tree, also as its server was set up."""
    place = tmp_path / "static"
    export(filled, f"static-tree:{place} --include team/o*:1")
    first = served(place)
    assert set(first) == {"team/oci:1", "team/old:1", "team/one:1", "team/other:1"}
    conf = place / "nginx.conf"
    conf.write_text(conf.read_text().replace("127.0.0.1:5080", "0.0.0.0:80"))
    export(filled, f"static-tree:{place} --include team/oci:2 --include team/app")
    second = served(place)
    assert first.items() <= second.items()
    assert set(second) - set(first) == {"team/oci:2", "team/app:latest"}
    assert "listen 0.0.0.0:80;" in conf.read_text()


@pytest.mark.parametrize(
    "names", [("a", "a/images"), ("a", "a/tags"), ("a/tags", "a"), ("a", "a/tags/images")]
)
def test_a_static_tree_of_names_that_collide(
    opened: Registry, tmp_path: Path, names: tuple[str, str]
) -> None:
    """A repository named like a file of another fails alone; the others are exported and unchanged."""
    image = builders.image(builders.layer({"a": b"1"}))
    for name, tag in product((*names, "other"), ("index.json", "images", "latest")):
        push_v2(opened, RepositoryName(name), Tag(tag), image)
    place = tmp_path / "static"
    for name in (*names, "other"):  # one by one, as later exports do; the last has them all
        entries = [each for each in entries_to_export(opened, Names()) if each.repository == name]
        Export(opened, StaticTreeTarget(place, opened)).export_all(entries, jobs=1)
    outcomes = Export(opened, StaticTreeTarget(place, opened)).export_all(
        [*entries_to_export(opened, Names())], jobs=2
    )
    failed = {each.entry.repository for each in outcomes if each.status is Status.FAILED}
    assert "other" not in failed
    assert (place / "nginx.conf").is_file()
    for name in {*names, "other"} - failed:
        tags = json.loads((place / f"v2/{name}/tags/list").read_bytes())["tags"]
        assert tags == ["images", "index.json", "latest"]
        for tag in ("images", "latest"):
            assert isinstance(json.loads((place / f"v1/repositories/{name}/tags/{tag}").read_bytes()), str)


def test_a_static_tree_changes_last(filled: Path, opened: Registry, tmp_path: Path) -> None:
    """A moved tag is served as before until the export is complete, even if the export is killed."""
    place, name, tag = tmp_path / "static", RepositoryName("team/oci"), Tag("1")
    export(filled, f"static-tree:{place}")
    before = served(place)
    moved = builders.image(stock_trees.LAYERS["a"], stock_trees.LAYERS["e"], oci=True, author="moved")
    opened.uploads.ingest(name, [moved.config])
    opened.manifests.put(name, tag, moved.media_type, moved.manifest)
    target = StaticTreeTarget(place, opened)
    target.finish, finish = lambda: None, target.finish  # type: ignore[method-assign]  # as if it was killed
    Export(opened, target).export_all([*entries_to_export(opened, Names())], jobs=2)
    assert served(place) == before
    finish()
    after = served(place)
    assert after["team/oci:1"][0] == str(moved.digest)
    assert {**after, "team/oci:1": before["team/oci:1"]} == before


def test_a_static_tree_forgets_what_v1_clients_no_longer_see(
    opened: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if an export is killed before the file of the tag is removed; no file of others is."""
    place, name = tmp_path / "static", RepositoryName("a")
    layer = builders.layer({"a": b"1"})

    def export_all() -> None:
        entries = [*entries_to_export(opened, Names())]
        Export(opened, StaticTreeTarget(place, opened)).export_all(entries, jobs=1)

    for other in ("a/tags", "a/tags/1"):
        push_v2(opened, RepositoryName(other), Tag("1"), builders.image(layer))
    for tag in ("index.json", "latest"):
        push_v2(opened, name, Tag(tag), builders.image(layer))
    export_all()
    for tag in ("images", "1", "index.json", "latest"):
        push_v2(opened, name, Tag(tag), builders.image(layer, os="windows"))
    tags, unlink = place / "v1/repositories/a/tags", Path.unlink

    def killed(path: Path, **options: bool) -> None:
        if path == tags / "latest":
            raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            export_all()
    assert json.loads((tags / "index.json").read_bytes()) == {}
    assert (tags / "latest").exists()
    export_all()
    assert {path.name for path in tags.iterdir()} == {"1", "images", "index.html", "index.json", "tags"}
    assert isinstance(json.loads((tags / "images").read_bytes()), list)


def test_static_trees_keep_layers_of_repositories_apart(opened: Registry, tmp_path: Path) -> None:
    """Who states the diff IDs of another repository's layers has no V1 client get other files for them."""
    image = builders.image(builders.layer({"a": b"well"}))
    other = builders.layer({"a": b"other"})
    layers = [builders.descriptor(media_types.DOCKER_LAYER_GZIP, other)]
    manifest = json.dumps(json.loads(image.manifest) | {"layers": layers}).encode()
    forged = replace(image, manifest=manifest, layers=[other])
    for name, each in (("a/forged", forged), ("b/well", image)):
        push_v2(opened, RepositoryName(name), Tag("1"), each)
    place = tmp_path / "static"
    Export(opened, StaticTreeTarget(place, opened)).export_all([*entries_to_export(opened, Names())], jobs=1)
    for name, each in (("a/forged", forged), ("b/well", image)):
        tag = place / "v1/repositories" / name / "tags/1"
        if tag.is_file():
            layer = place / "v1/images" / json.loads(tag.read_bytes()) / "layer"
            assert layer.read_bytes() == each.layers[0], name


def test_static_trees_share_what_was_compressed_anew(opened: Registry, tmp_path: Path) -> None:
    """Within a repository, the first layer stays; another repository has to have that one."""
    layer = builders.layer({"a": b"1"})
    again = gzip.compress(gzip.decompress(layer), 1, mtime=1)
    for name, each in (("a/one:1", layer), ("b/two:1", layer), ("b/two:2", again), ("c/three:1", again)):
        repository, _, tag = name.partition(":")
        push_v2(opened, RepositoryName(repository), Tag(tag), builders.image(each, each, author=name))
    place = tmp_path / "static"
    Export(opened, StaticTreeTarget(place, opened)).export_all([*entries_to_export(opened, Names())], jobs=1)
    seen = [path.relative_to(place).as_posix() for path in (place / "v1/repositories").rglob("tags/[123]")]
    assert sorted(seen) == [
        f"v1/repositories/{name}" for name in ("a/one/tags/1", "b/two/tags/1", "b/two/tags/2")
    ]
    base = place / "v1/images" / Digest.of(gzip.decompress(layer)).hex / "layer"
    assert base.read_bytes() == layer


@pytest.mark.parametrize("links", [True, False])
def test_static_trees_of_many_at_once(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """Images that share all below their tops, many at once, on file systems with and without hard links."""
    old, tags = Tree(tmp_path / "old"), {str(number) for number in range(16)}
    base = None
    for letter in "abcdef":
        base = old.image(letter, stock_trees.LAYERS[letter], parent=base)
    for tag in tags:
        old.tag("team/old", tag, old.image(f"top {tag}", stock_trees.LAYERS["g"], parent=base, author=tag))
    command(data, f"run v1-tree:{old.root}")
    if not links:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EMLINK, "Too many links")

        monkeypatch.setattr(os, "link", refuse)
    export(data, f"static-tree:{tmp_path / 'static'} --jobs 8")
    assert set(served(tmp_path / "static")) == {f"team/old:{tag}" for tag in tags}
    layers = [*(tmp_path / "static/v1/images").glob("*/layer")]
    assert len(layers) == 6 + len(tags)
    assert all((layer.stat().st_nlink > 1) == links for layer in layers)


def test_names_that_are_paths_of_others(tmp_path: Path, data: Path) -> None:
    """A repository whose name is a path of another one has no place in a static tree beside it."""
    tree = stock_trees.StockTree(tmp_path / "stock")
    for name in ("a/b", "a/b/manifests/1", "a/b/tags/list", "index.json", "team/well"):
        tree.image(name, builders.image(stock_trees.LAYERS["a"]), "1")
    command(data, f"run registry-tree:{tree.root}")
    told = json.loads(export(data, f"static-tree:{tmp_path / 'static'} --json --jobs 1", code=1).stdout)
    assert {each["tag"] for each in told["tags"] if each["status"] == "done"} == {"a/b:1", "team/well:1"}
    assert set(served(tmp_path / "static")) == {"a/b:1", "team/well:1"}


@pytest.mark.parametrize("page", ["index.html", "index.json"])
def test_names_that_are_lists_of_others(tmp_path: Path, opened: Registry, page: str) -> None:
    """A repository that would have the place of a list of V1 tags is there for V2 clients only."""
    image, names = builders.image(builders.layer({"a": b"1"})), ("a", f"a/tags/{page}", "tags")
    for name in names:
        push_v2(opened, RepositoryName(name), Tag("1"), image)
    place = tmp_path / "static"
    outcomes = Export(opened, StaticTreeTarget(place, opened)).export_all(
        [*entries_to_export(opened, Names())], jobs=1
    )
    assert {each.status for each in outcomes} == {Status.DONE}
    assert json.loads((place / "v2/_catalog").read_bytes())["repositories"] == sorted(names)
    for name in names:
        assert json.loads((place / f"v2/{name}/tags/list").read_bytes())["tags"] == ["1"]
    for name in ("a", "tags"):
        assert {*json.loads((place / f"v1/repositories/{name}/tags/{page}").read_bytes())} == {"1"}


def test_types_that_would_be_configuration(tmp_path: Path, opened: Registry) -> None:
    """A media type with quotes and braces, which anyone may push, is written to no server configuration."""
    for kind, tag in (('application/x;"y";}server{', "bad"), ("application/x.test+json", "good")):
        document = json.dumps({"any": tag}).encode()
        opened.manifests.put(RepositoryName("team/any"), Tag(tag), kind, document)
    place = tmp_path / "static"
    outcomes = Export(opened, StaticTreeTarget(place, opened)).export_all(
        [*entries_to_export(opened, Names())], jobs=1
    )
    assert [outcome.status for outcome in outcomes] == [Status.FAILED, Status.DONE]
    assert "}server{" not in (place / "nginx.conf").read_text()

"""Another run restores files that this registry has lost."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.migrate import stock_trees
from tests.migrate.commands import command, content
from tests.migrate.stock_trees import StockTree
from tests.migrate.test_files import saved
from tests.migrate.test_verify import manifest
from tests.migrate.trees import LAYERS, Tree, image_id
from tests.state import blob_file

APP = RepositoryName("team/app")


def truncate(path: Path) -> None:
    """Cut a file short."""
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


def v1(folder: Path) -> str:
    """Build two images on one base, in two repositories."""
    tree = Tree(folder)
    base = tree.image("base", LAYERS["a"])
    for name in ("app", "other"):
        tree.tag(f"team/{name}", "1", tree.image(name, LAYERS["b"], parent=base))
    return f"v1-tree:{folder}"


def v2(folder: Path) -> str:
    """Build an image, and an index that names it."""
    return f"registry-tree:{stock_trees.small(folder).root}"


def archive(folder: Path) -> str:
    """Build an archive of one image, whose layers are made gzip."""
    folder.mkdir()
    return f"docker-archive:{saved(folder / 'app.tar', (builders.image(LAYERS['a']), ['team/app:1']))}"


def made_layer(opened: Registry) -> Digest:
    """Return what the layer of an archive became."""
    _, document, _ = manifest(opened, "1")
    return Digest.parse(document["layers"][0]["digest"])  # type: ignore[index]  # a document


def v1_layer(_: Registry) -> Digest:
    """Return the layer that all images share."""
    return Digest.of(LAYERS["a"])


def v1_json(opened: Registry) -> Digest:
    """Return the JSON of the base, of one repository's or both."""
    return opened.v1_images.get(RepositoryName("team/app"), ImageId(image_id("base"))).json


def v2_layer(_: Registry) -> Digest:
    """Return the layer that all images share."""
    return Digest.of(stock_trees.LAYERS["a"])


def v2_config(_: Registry) -> Digest:
    """Return the config of the image that is in both repositories."""
    payload = json.loads(builders.image(stock_trees.LAYERS["a"]).manifest)
    return Digest.parse(payload["config"]["digest"])


def v2_manifest(_: Registry) -> Digest:
    """Return the image that is tagged, and named by the index."""
    return builders.image(stock_trees.LAYERS["a"]).digest


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, truncate])
@pytest.mark.parametrize(
    ("build", "lost"),
    [
        (v1, v1_layer),
        (v1, v1_json),
        (v2, v2_layer),
        (v2, v2_config),
        (v2, v2_manifest),
        (archive, made_layer),
    ],
)
def test_what_is_lost_comes_again(
    tmp_path: Path,
    data: Path,
    opened: Registry,
    *,
    build: Callable[[Path], str],
    lost: Callable[[Registry], Digest],
    damage: Callable[[Path], None],
) -> None:
    """The first tag that needs a lost file is imported again, even with --existing skip."""
    source = build(tmp_path / "old")
    told = json.loads(command(data, f"run {source} --json").stdout)
    whole = content(data)
    damage(blob_file(data, lost(opened)))
    command(data, f"verify {source}", code=1)
    healed = json.loads(command(data, f"run {source} --existing fail --json").stdout)
    assert healed["counts"].get("done", 0) >= 1
    assert healed["counts"].keys() <= {"done", "same"}
    assert content(data) == whole
    command(data, f"verify {source}")
    again = json.loads(command(data, f"run {source} --json").stdout)
    assert again["counts"] == {"same": told["counts"]["done"]}


def v1_of_any_compression(folder: Path) -> str:
    """Build an image on an image, one of whose layers has to be compressed anew for V2 clients."""
    tree = Tree(folder)
    base = tree.image("base", lzma.compress(gzip.decompress(LAYERS["a"])))
    tree.tag("team/app", "1", tree.image("top", LAYERS["b"], parent=base))
    return f"v1-tree:{folder}"


def v2_image(folder: Path) -> str:
    """Build an image of two layers."""
    image = builders.image(stock_trees.LAYERS["a"], stock_trees.LAYERS["b"])
    StockTree(folder).image("team/app", image, "1")
    return f"registry-tree:{folder}"


def schema1(folder: Path) -> str:
    """Build an image of schema 1."""
    tree = StockTree(folder)
    tree.schema1("team/app", "1", stock_trees.LAYERS["a"], stock_trees.LAYERS["b"])
    return f"registry-tree:{folder}"


def derived_from(opened: Registry, build: object) -> set[Digest]:
    """Return what was derived of the tag 1, once clients of all generations have asked for it."""
    client = client_of(opened)
    assert client.get("/v1/repositories/team/app/tags").json
    for accept in (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST):
        client.get("/v2/team/app/manifests/1", headers={"Accept": accept})
    row = opened.manifests.peek(APP, Tag("1"))
    assert row
    derived = {blob.digest for blob in opened.derived.blobs(APP, row.digest)}
    if build is schema1 and (signed := opened.manifests.signed(row)):
        derived.add(signed.digest)
    if build is v1_of_any_compression:
        named = {blob.digest for blob in opened.manifests.reachable_blobs(APP, row.digest)}
        derived |= named - {Digest.of(LAYERS["b"])}
    return derived


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, truncate])
@pytest.mark.parametrize(("build", "count"), [(v1_of_any_compression, 4), (v2_image, 3), (schema1, 6)])
def test_what_was_derived_is_derived_again(
    tmp_path: Path,
    data: Path,
    opened: Registry,
    *,
    build: Callable[[Path], str],
    count: int,
    damage: Callable[[Path], None],
) -> None:
    """``verify`` names each document, and the next run derives it again."""
    source = build(tmp_path / "old")
    command(data, f"run {source}")
    derived = derived_from(opened, build)
    assert len(derived) == count
    whole = content(data)
    for digest in derived:
        damage(blob_file(data, digest))
        wrong = command(data, f"verify {source}", code=1).output
        assert str(digest) in wrong or "its signatures: " in wrong
        command(data, f"run {source} --existing fail")
        command(data, f"verify {source}")
    assert content(data).items() >= whole.items()

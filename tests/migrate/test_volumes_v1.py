"""Volumes carry the V1 images that clients pushed: their ids, JSONs, layers and checksums."""

import bz2
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.assembly import open_registry
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.v1_carried import CarriedImages
from dualreg.settings import Settings
from tests import builders
from tests.migrate import stock_trees
from tests.migrate.commands import command, export
from tests.migrate.test_volumes import inventory, tags
from tests.migrate.trees import Tree


@pytest.fixture
def pushed(tmp_path: Path) -> tuple[str, str]:
    """Two images that V1 clients pushed, one on the other; the layer of one is in another form in V2."""
    tree = Tree(tmp_path / "v1")
    base = tree.image("base", stock_trees.LAYERS["a"])
    top = tree.image("top", bz2.compress(builders.tar({"b": b"two" * 999})), parent=base)
    tree.tag("old/app", "1", top)
    tree.tag("old/base", "1", base)
    command(tmp_path / "data", f"run v1-tree:{tree.root}")
    return base, top


def v1_images(data: Path, name: str, top: str) -> list[tuple[object, ...]]:
    """Return all that V1 clients get of an image and its ancestors."""
    registry = open_registry(Settings(data=data))
    repository = RepositoryName(name)
    assert registry.bridge.resolve(repository, Tag("1")) == top
    found = list[tuple[object, ...]]()
    for row in registry.v1_images.ancestry(repository, ImageId(top)):
        assert row.layer
        with registry.blobs.open(row.layer) as layer:
            facts = row.id, row.parent, row.checksum, row.diff_id, row.tarsum, row.tarsum_verified
            found.append((*facts, registry.v1_images.json(row), layer.read()))
    registry.close()
    return found


@pytest.mark.slow
def test_v1_images_are_carried(pushed: tuple[str, str], tmp_path: Path) -> None:
    """With their ids and every byte, so that clients of both generations see what was pushed."""
    base, top = pushed
    folder, data, there = tmp_path / "out", tmp_path / "data", tmp_path / "there"
    export(data, f"volumes:{folder} --volume 1M")
    assert "2 same" in export(data, f"volumes:{folder} --volume 1M").stdout
    command(there, f"run volumes:{folder}")
    command(there, f"verify volumes:{folder}")
    assert tags(there) == tags(data)
    for name, image in (("old/app", top), ("old/base", base)):
        assert v1_images(there, name, image) == v1_images(data, name, image) != []
    assert "2 same" in command(there, f"run volumes:{folder}").output
    assert "old/app:1" in command(tmp_path / "alone", f"run volumes:{folder} --include old/app:1").output
    assert v1_images(tmp_path / "alone", "old/app", top) == v1_images(data, "old/app", top)


@pytest.mark.slow
def test_v1_images_of_which_layers_are_there(pushed: tuple[str, str], tmp_path: Path) -> None:
    """They are left out, and the registry's own are verified; if it has lost them, it is said."""
    _, top = pushed
    folder, data, there = tmp_path / "out", tmp_path / "data", tmp_path / "there"
    command(there, f"run v1-tree:{tmp_path / 'v1'} --include old/base:1")
    export(data, f"volumes:{folder} --have {inventory(there, tmp_path / 'have')}")
    command(there, f"run volumes:{folder}")
    assert v1_images(there, "old/app", top) == v1_images(data, "old/app", top)
    output = command(tmp_path / "other", f"run volumes:{folder} --include old/app:1", code=3).output
    assert "left out" in output


def _chain_without_base(text: str, base: str, top: str) -> str:
    del top
    found = json.loads(text)
    del found["old/app"]["images"][base]
    return json.dumps(found)


def _swapped(text: str, base: str, top: str) -> str:
    found = json.loads(text)
    images = found["old/app"]["images"]
    images[base]["json"] = images[top]["json"]
    return json.dumps(found)


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (lambda text, *_: text[:-9], 2, "v1-images.json"),
        (lambda *_: '{"old/app": {"manifests": [], "images": {}}}', 2, "expected objects"),
        (lambda *_: '{"old/app": 1}', 2, "expected manifests and images"),
        (_chain_without_base, 0, "1 done"),
        (_swapped, 3, "its JSON is not the one that was exported"),
    ],
)
def test_v1_images_that_are_damaged(
    pushed: tuple[str, str], tmp_path: Path, damage: Callable[..., str], code: int, message: str
) -> None:
    """The file is refused; or the images are derived, as without it; or the tag is not imported."""
    folder, there = tmp_path / "out", tmp_path / "there"
    export(tmp_path / "data", f"volumes:{folder}")
    path = folder / "v1-images.json"
    path.write_text(damage(path.read_text(), *pushed))
    output = command(there, f"run volumes:{folder} --include old/app:1", code=code).output
    assert message in output
    if not code:
        assert "is missing, or its own ancestor" in command(there, f"inspect volumes:{folder}", code=1).output


@pytest.mark.parametrize(
    ("top", "members"),
    [
        (["a" * 64], {}),
        ({"a": 1}, {}),
        ("b" * 64, {}),
        ("a" * 64, {"parent": "a" * 64}),
        ("a" * 64, {"parent": ["a" * 64]}),
        ("a" * 64, {"layer": 1}),
        ("a" * 64, {"tarsum": "tarsum+sha256:0\r\nSet-Cookie: a=b"}),
        ("a" * 64, {"tarsum": 1}),
    ],
)
def test_v1_images_that_are_no_chain(top: object, members: dict[str, object]) -> None:
    """Whatever the file says, only the images of that manifest are lost, and headers have nothing of it."""
    digest = f"sha256:{'0' * 64}"
    image = {"json": digest, "layer": digest, **members}
    document = {"app": {"manifests": {digest: top}, "images": {"a" * 64: image}}}
    carried = CarriedImages.parse(json.dumps(document).encode())
    with pytest.raises(ValueError, match=r"^image .* is "):
        carried.chain("app", Digest.parse(digest))

"""Symbolic links of a source: followed within it, and named where they lead out of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.migrate.sources.files import entries, open_file
from tests import builders
from tests.migrate.commands import command, export
from tests.migrate.stock_trees import LAYERS as STOCK_LAYERS
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree

#: A source: its location, its root, and the files and folders of it that are read, by what they are.
Made = tuple[str, Path, dict[str, Path]]


def v1_tree(root: Path) -> Made:
    """Write a tree of V1 images."""
    tree = Tree(root)
    image = tree.image("app", LAYERS["a"])
    tree.tag("team/app", "1", image)
    folder = root / "images" / image
    repositories = root / "repositories"
    parts = {
        "layer": folder / "layer",
        "json": folder / "json",
        "image": folder,
        "images": root / "images",
        "tag": repositories / "team/app/tag_1",
        "repository": repositories / "team/app",
        "namespace": repositories / "team",
    }
    return f"v1-tree:{root}", root, parts


def stock_tree(root: Path) -> Made:
    """Write a tree of manifests."""
    tree, image = StockTree(root), builders.image(STOCK_LAYERS["a"])
    tree.image("team/app", image, "1")
    repository = tree.v2 / "repositories/team/app"
    parts = {
        f"blob {number}": path for number, path in enumerate(sorted(tree.v2.glob("blobs/*/*/*/data")))
    } | {
        "blobs": tree.v2 / "blobs",
        "tag": repository / "_manifests/tags/1/current/link",
        "tag's folder": repository / "_manifests/tags/1",
        "repository": repository,
        "namespace": repository.parent,
        "layer link": next(repository.glob("_layers/*/*/link")),
    }
    return f"registry-tree:{root}", tree.v2, parts


def oci_layout(root: Path) -> Made:
    """Write an OCI layout."""
    stock_tree(root.parent / "stock")
    registry = root.parent / "registry"
    command(registry, f"run registry-tree:{root.parent / 'stock'}")
    export(registry, f"oci-layout:{root}")
    parts = {f"blob {number}": path for number, path in enumerate(sorted((root / "blobs").glob("*/*")))}
    return f"oci-layout:{root}", root, {**parts, "index": root / "index.json", "blobs": root / "blobs"}


CASES = [
    *((v1_tree, name) for name in ("layer", "json", "image", "images", "tag", "repository", "namespace")),
    *((stock_tree, name) for name in ("blob 0", "blob 1", "blob 2", "blobs", "tag", "tag's folder")),
    *((stock_tree, name) for name in ("repository", "namespace", "layer link")),
    *((oci_layout, name) for name in ("blob 0", "blob 1", "blob 2", "index", "blobs")),
]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("make", "part"), CASES)
def test_links_out_of_the_source(
    make: Callable[[Path], Made], part: str, tmp_path: Path, data: Path, *, relative: bool
) -> None:
    """Nothing is read there, whatever it is; every command says what is not, and imports nothing of it."""
    source, _, parts = make(tmp_path / "old")
    path, outside = parts[part], tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(os.path.relpath(outside, path.parent) if relative else outside)
    for line in ("inspect", "plan", "run", "run --link hard"):
        output = command(data, f"{line} {source}", code=None).output
        assert "outside of the source" in output, line
    assert "0 done" in output or "done" not in output
    path.unlink()
    outside.rename(path)
    assert "1 done" in command(data, f"run {source}").output


@pytest.mark.parametrize(("make", "part"), CASES)
@pytest.mark.parametrize("mode", ["copy", "hard"])
def test_links_within_the_source(
    make: Callable[[Path], Made], part: str, mode: str, tmp_path: Path, data: Path
) -> None:
    """They are followed, also where the source itself is reached by a link."""
    source, root, parts = make(tmp_path / "old")
    path, inside = parts[part], root / "moved"
    path.rename(inside)
    path.symlink_to(os.path.relpath(inside, path.parent))
    (tmp_path / "link").symlink_to("old")
    source = source.replace(str(tmp_path / "old"), str(tmp_path / "link"))
    options = f" --link {mode}" if make is not oci_layout else ""
    assert "1 done" in command(data, f"run {source}{options}").output


def test_in_place(tmp_path: Path) -> None:
    """A blob of the registry's own store that lies elsewhere is not imported."""
    source, root, parts = stock_tree(tmp_path / "own")
    parts["blob 0"].rename(tmp_path / "outside")
    parts["blob 0"].symlink_to(tmp_path / "outside")
    output = command(tmp_path / "own", f"run {source}", code=3).output
    assert "outside of the source" in output
    assert root.is_dir()


@pytest.fixture
def swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a source that becomes a link out of it at the moment when it is opened."""
    root, secret = tmp_path / "root", tmp_path / "secret"
    root.mkdir()
    secret.write_text("secret")
    path = root / "layer"
    path.write_text("layer")
    real = os.open

    def swap(name: str, *rest: int, **options: int) -> int:
        if str(name) == str(path) and not path.is_symlink():
            path.unlink()
            path.symlink_to(secret)
        return real(name, *rest, **options)

    monkeypatch.setattr(os, "open", swap)
    return path


def test_a_link_that_was_no_link_when_it_was_listed(swapped: Path) -> None:
    """What counts is what was opened."""
    assert [entry.is_symlink() for entry in entries(swapped.parent, swapped.parent)] == [False]
    with pytest.raises(OSError, match="outside of the source"):
        open_file(swapped, swapped.parent)


def test_roots_whose_names_begin_alike(tmp_path: Path) -> None:
    """A neighbour of the root is outside of it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "rooted").mkdir()
    (tmp_path / "rooted/x").write_text("x")
    (tmp_path / "root/x").symlink_to("../rooted/x")
    with pytest.raises(OSError, match="outside of the source"):
        open_file(tmp_path / "root/x", tmp_path / "root")
    with open_file(tmp_path / "root/x", "/") as file:
        assert file.read() == b"x"

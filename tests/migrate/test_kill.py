"""Runs that are killed, at every step, and run again."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import builders
from tests.migrate import stock_trees
from tests.migrate.commands import killed_at_every_step
from tests.migrate.test_files import saved
from tests.migrate.trees import LAYERS, Tree
from tests.soak import short_or_long

pytestmark = pytest.mark.slow


def _v1(root: Path) -> str:
    tree = Tree(root)
    base = tree.image("base", gzip.compress(bytes(1536)))
    tree.tag("a/x", "1", tree.image("top", lzma.compress(bytes(512)), parent=base))
    tree.tag("b/y", "1", base)
    return f"v1-tree:{root}"


def _stock(root: Path) -> str:
    stock_trees.small(root)
    return f"registry-tree:{root}"


def _saved(root: Path) -> str:
    root.mkdir()
    images = [builders.image(LAYERS["a"]), builders.image(LAYERS["a"], LAYERS["b"])]
    path = saved(root / "images.tar", (images[0], ["team/app:1", "team/app:2"]), (images[1], ["team/app:3"]))
    return f"docker-archive:{path}"


@pytest.mark.parametrize(("build", "least"), [(_v1, 7), (_stock, 10), (_saved, 7)])
def test_killed_at_every_line_of_the_journal(
    build: Callable[[Path], str], least: int, tmp_path: Path
) -> None:
    """The next run finds everything that a killed run had finished."""
    found = killed_at_every_step(build(tmp_path / "old"), tmp_path, "journal", stride=short_or_long(2, 1))
    assert found >= least


@pytest.mark.parametrize("build", [_v1, _stock, _saved])
def test_killed_between(build: Callable[[Path], str], tmp_path: Path) -> None:
    """Between a blob's rename and its row, a row and its link: at some of all the waits for the disk."""
    assert killed_at_every_step(build(tmp_path / "old"), tmp_path, "disk", stride=short_or_long(23, 1)) >= 4

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


def _v1(root: Path) -> tuple[str, int]:
    tree = Tree(root)
    base = tree.image("base", gzip.compress(bytes(1536)))
    tree.tag("a/x", "1", tree.image("top", lzma.compress(bytes(512)), parent=base))
    tree.tag("b/y", "1", base)
    return f"v1-tree:{root}", 16


def _stock(root: Path) -> tuple[str, int]:
    stock_trees.small(root)
    return f"registry-tree:{root}", 24


def _saved(root: Path) -> tuple[str, int]:
    root.mkdir()
    images = [builders.image(LAYERS["a"]), builders.image(LAYERS["a"], LAYERS["b"])]
    path = saved(root / "images.tar", (images[0], ["team/app:1", "team/app:2"]), (images[1], ["team/app:3"]))
    return f"docker-archive:{path}", 18


@pytest.mark.parametrize("build", [_v1, _stock, _saved])
def test_killed_at_every_step(build: Callable[[Path], tuple[str, int]], tmp_path: Path) -> None:
    """Whatever was done is found again."""
    source, least = build(tmp_path / "old")
    assert killed_at_every_step(source, tmp_path) >= least

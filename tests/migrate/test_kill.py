"""Runs that are killed, at every step, and run again."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.migrate import stock_trees
from tests.migrate.commands import killed_at_every_step
from tests.migrate.trees import Tree


def _v1(root: Path) -> tuple[str, int]:
    tree = Tree(root)
    base = tree.image("base", gzip.compress(bytes(1536)))
    tree.tag("a/x", "1", tree.image("top", lzma.compress(bytes(512)), parent=base))
    tree.tag("b/y", "1", base)
    return f"v1-tree:{root}", 16


def _stock(root: Path) -> tuple[str, int]:
    stock_trees.small(root)
    return f"registry-tree:{root}", 24


@pytest.mark.parametrize("build", [_v1, _stock])
def test_killed_at_every_step(build: Callable[[Path], tuple[str, int]], tmp_path: Path) -> None:
    """Whatever was done is found again."""
    source, least = build(tmp_path / "old")
    assert killed_at_every_step(source, tmp_path) >= least

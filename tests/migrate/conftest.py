"""Fixtures: where ours will be, and what is there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dualreg.assembly import open_registry, prepare
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests.migrate.trees import Expected, everything


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where ours will be."""
    return tmp_path / "data"


@pytest.fixture
def opened(data: Path) -> Iterator[Registry]:
    """What is there now."""
    settings = Settings(data=data)
    prepare(settings)
    registry = open_registry(settings)
    yield registry
    registry.close()


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    """The tree with everything in it."""
    return everything(tmp_path / "old")

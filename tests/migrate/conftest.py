"""Fixtures: a data directory, the registry in it, and a source."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dualreg.assembly import open_registry, prepare
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests.migrate.trees import Expected, everything


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of the registry under test, which does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def opened(data: Path) -> Iterator[Registry]:
    """The registry in the data directory."""
    settings = Settings(data=data)
    prepare(settings)
    registry = open_registry(settings)
    yield registry
    registry.close()


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    """The tree with every kind of content and damage."""
    return everything(tmp_path / "old")

"""What a collection deletes while others look at it is no damage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.checks import CheckQueries
from dualreg.catalog.database import Catalog
from dualreg.image.names import RepositoryName
from dualreg.maintenance.fsck.check import Check
from dualreg.maintenance.gc import Collection
from dualreg.maintenance.scrubbing import AGE, Scrubber
from dualreg.registry import Registry
from dualreg.storage.filesystem import FilesystemStore
from tests.conftest import Clock

NAME, BLOBS = RepositoryName("team/app"), [bytes([number]) * 100 for number in range(3)]


@pytest.fixture
def registry(catalog: Catalog, tmp_path: Path, clock: Clock) -> Registry:
    """A registry with three blobs that nothing uses, and that were not verified for long."""
    registry = build_registry(catalog, FilesystemStore(tmp_path / "store"))
    for blob in BLOBS:
        registry.uploads.ingest(NAME, [blob])
    clock.advance(AGE * 2)
    Collection(registry).run()
    clock.advance(AGE * 2)
    return registry


def scrub(registry: Registry, folder: Path) -> None:
    """Verify blobs as a server does in the background."""
    assert folder.exists()
    Scrubber(registry.state.catalog, registry.integrity, 1 << 40).scrub_stale()


def check(registry: Registry, folder: Path) -> None:
    """Check everything, and read all blobs."""
    assert folder.exists()
    store = FilesystemStore(folder / "store")
    assert [*Check(registry.state.catalog, store, registry.integrity, read=True).run()] == []


def require(registry: Registry, folder: Path) -> None:
    """Look for a blob as a request does that found it in the catalog."""
    assert folder.exists()
    with registry.state.catalog.read() as tx:
        (blob, *_) = tx.checks.blobs(None)
    registry.integrity.holds(blob)


@pytest.mark.parametrize(
    ("query", "look"), [("stalest", scrub), ("stalest", check), ("blobs", check), ("blobs", require)]
)
def test_what_is_collected_meanwhile_is_not_damaged(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    query: str,
    look: Callable[[Registry, Path], None],
) -> None:
    """Blobs that the catalog listed, and that are deleted before their files are looked at."""
    own = getattr(CheckQueries, query)

    def listed(*given: Any) -> Any:
        page = own(*given)
        Collection(registry).run()
        return page

    monkeypatch.setattr(CheckQueries, query, listed)
    look(registry, tmp_path)
    assert [*registry.state.store.walk()] == []
    assert "damaged" not in caplog.text
    assert registry.integrity.damaged() == 0

"""New tags that are imported together: what makes them not new, and what a store is asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.imports import Additions, Imports
from dualreg.storage.bulk import Bulk
from tests import builders
from tests.builders import image
from tests.migrate.commands import command, content
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree

_Announce = Callable[[], None]
NAME, TAG = RepositoryName("team/app"), Tag("1")


def _v1(root: Path) -> str:
    tree = Tree(root)
    for number, name in enumerate("ab"):
        tree.tag(NAME, f"{number}", tree.image(name, LAYERS[name]), updated=1_400_000_000)
    return f"v1-tree:{root}"


def _stock(root: Path) -> str:
    tree = StockTree(root)
    for number, name in enumerate("ab"):
        tree.image(NAME, image(LAYERS[name]), f"{number}")
    return f"registry-tree:{root}"


@pytest.fixture(params=[_v1, _stock])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A source with two tags."""
    return str(request.param(tmp_path / "old"))


def _before_recording(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Call *meanwhile* once, when everything is staged and nothing is recorded."""
    record = Imports.record

    def interrupted(
        self: Imports, added: Sequence[Additions], files: Bulk, announce: Callable[[], None]
    ) -> None:
        def announced() -> None:
            announce()
            meanwhile()

        monkeypatch.setattr(Imports, "record", record)
        record(self, added, files, announced)

    monkeypatch.setattr(Imports, "record", interrupted)


def test_a_push_wins(source: str, opened: Registry, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag that was pushed is skipped, the other one is imported, and no bytes stay that nothing has."""
    pushed = builders.image(LAYERS["z"])

    def push() -> None:
        for blob in pushed.blobs.values():
            opened.uploads.ingest(NAME, [blob])
        opened.manifests.put(NAME, TAG, pushed.media_type, pushed.manifest)

    _before_recording(monkeypatch, push)
    assert "1 done, 1 skipped" in command(data, f"run {source} --jobs 1", code=1).output
    assert opened.manifests.find(NAME, TAG).digest == pushed.digest
    assert not any(Digest.of(LAYERS["b"]).hex in path for path in content(data))
    assert any(Digest.of(LAYERS["a"]).hex in path for path in content(data))

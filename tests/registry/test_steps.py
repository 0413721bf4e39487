"""Work on thousands of rows and files: in steps, so that no other writer waits for long."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import Origin
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.v1_image import CHAIN_LIMIT
from dualreg.registry import Registry
from dualreg.registry.state import STEP
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.memory import MemoryStore

NAME, TAG = RepositoryName("team/app"), Tag("latest")
LAYER = gzip.compress(bytes(1024), mtime=0)


class CountingStore(MemoryStore):
    """A store that counts the files that each transaction publishes and writes."""

    def __init__(self) -> None:
        """Start with nothing."""
        super().__init__()
        self.files = 0

    def publish(self, *args: object) -> None:
        """Count one."""
        self.files += 1
        super().publish(*args)  # type: ignore[arg-type]  # handed on

    def write_link(self, *args: object) -> None:
        """Count one."""
        self.files += 1
        super().write_link(*args)  # type: ignore[arg-type]  # handed on


def push(registry: Registry, layers: int) -> Digest:
    """Push an image with that many layers; return its digest."""
    registry.uploads.ingest(NAME, [LAYER])
    rootfs = {"type": "layers", "diff_ids": [str(Digest.of(bytes(1024)))] * layers}
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()
    registry.uploads.ingest(NAME, [config])
    described = {
        "mediaType": media_types.DOCKER_CONFIG,
        "digest": str(Digest.of(config)),
        "size": len(config),
    }
    layer = {"mediaType": media_types.DOCKER_LAYER_GZIP, "digest": str(Digest.of(LAYER)), "size": len(LAYER)}
    document = {"schemaVersion": 2, "mediaType": media_types.DOCKER_MANIFEST}
    payload = json.dumps(document | {"config": described, "layers": [layer] * layers}).encode()
    return registry.manifests.put(NAME, TAG, media_types.DOCKER_MANIFEST, payload).manifest.digest


def test_a_long_chain_is_recorded_in_steps(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction writes more than a few files, however many layers the image has."""
    store = CountingStore()
    registry, counts = build_registry(catalog, store), list[int]()
    push(registry, CHAIN_LIMIT)
    begin = catalog.begin

    @contextmanager
    def counted() -> Iterator[Transaction]:
        before = store.files
        with begin() as tx:
            yield tx
        counts.append(store.files - before)

    monkeypatch.setattr(catalog, "begin", counted)
    image = registry.bridge.resolve(NAME, TAG)
    assert len(registry.v1_images.ancestry(NAME, image)) == CHAIN_LIMIT
    assert max(counts) <= 3 * STEP
    assert sum(counts) > CHAIN_LIMIT


def test_a_longer_chain_has_no_v1_view(catalog: Catalog) -> None:
    """It is not cut: V1 clients do not see the tag."""
    registry = build_registry(catalog, MemoryStore())
    push(registry, CHAIN_LIMIT + 1)
    assert registry.bridge.unseen(NAME) == ()
    registry.bridge.prepare(NAME)
    assert registry.bridge.unseen(NAME) == (TAG,)


def test_the_files_of_many_tags_go_with_few_syncs(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting a manifest syncs each folder once, not once for each of its tags."""
    registry = build_registry(catalog, FilesystemStore(tmp_path / "store"))
    digest, synced = push(registry, 1), list[Path]()
    for number in range(50):
        registry.manifests.retag(NAME, Tag(f"t{number}"), digest, Origin.V2)
    monkeypatch.setattr("dualreg.storage.durable.sync", synced.append)
    registry.manifests.delete(NAME, digest)
    assert registry.tags.list_all(NAME) == ()
    assert not [*tmp_path.rglob("t1*")]
    assert len(synced) < 20

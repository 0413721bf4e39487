"""Work on thousands of rows and files: in steps, so that no other writer waits for long."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import Origin
from dualreg.errors import TagImmutable
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId
from dualreg.image.schema1 import schema1_from_image
from dualreg.image.v1_image import CHAIN_LIMIT, V1Image
from dualreg.registry import Registry, deletion
from dualreg.registry.state import STEP
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.link_tree import FolderLinks, StagedLink
from dualreg.storage.memory import MemoryStore
from tests import builders
from tests.properties.registries import push_v1

NAME, BASE, TAG = RepositoryName("team/app"), RepositoryName("team/base"), Tag("latest")
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

    def place_links(self, links: Sequence[StagedLink]) -> None:
        """Count them."""
        self.files += len(links)
        super().place_links(links)

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        """Count them."""
        self.files += len(folders)
        super().set_aside(aside, *folders)

    def remove_link(self, *paths: str) -> None:
        """Count them."""
        self.files += len(paths)
        super().remove_link(*paths)


@pytest.fixture
def store() -> CountingStore:
    """The store."""
    return CountingStore()


@pytest.fixture
def registry(catalog: Catalog, store: CountingStore) -> Registry:
    """A registry over it."""
    return build_registry(catalog, store)


@pytest.fixture
def counts(catalog: Catalog, store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each transaction changes."""
    counts, begin = list[int](), catalog.begin

    @contextmanager
    def counted(**options: Any) -> Iterator[Transaction]:
        before = store.files
        with begin(**options) as tx:
            yield tx
        counts.append(store.files - before)

    monkeypatch.setattr(catalog, "begin", counted)
    return counts


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


def push_schema1(registry: Registry, layers: int) -> Digest:
    """Push an image as ``push``, and then the same image as schema 1 under the same tag."""
    row = registry.manifests.find(NAME, push(registry, layers) and TAG)
    manifest = registry.manifests.load(row)
    config = registry.manifests.documents.read(manifest.children[0].descriptor.digest)
    payload = registry.negotiation.sign(schema1_from_image(manifest, config, NAME, TAG) or b"")
    return registry.manifests.put(NAME, TAG, media_types.SCHEMA1_SIGNED, payload).manifest.digest


@pytest.mark.slow
@pytest.mark.parametrize("push", [push, push_schema1])
def test_a_long_chain_is_recorded_and_deleted_in_steps(
    registry: Registry, store: CountingStore, counts: list[int], push: Callable[[Registry, int], Digest]
) -> None:
    """No transaction changes more than a few files, however many layers the image has."""
    digest = push(registry, CHAIN_LIMIT)
    counts.clear()
    image = registry.bridge.resolve(NAME, TAG)
    assert len(registry.v1_images.ancestry(NAME, image)) == CHAIN_LIMIT
    assert max(counts) <= 3 * STEP
    assert sum(counts) > CHAIN_LIMIT
    counts.clear()
    registry.manifests.delete(NAME, digest)
    assert registry.v1_images.list(NAME) == ()
    assert not [path for path, _ in store.walk_links() if "/_v1/" in path]
    assert max(counts) <= 3 * deletion.STEP
    assert sum(counts) > CHAIN_LIMIT


def delete_manifest(registry: Registry) -> None:
    """Delete the only manifest."""
    registry.manifests.delete(NAME, registry.manifests.find(NAME, TAG).digest)


def clear(registry: Registry) -> None:
    """Delete all tags."""
    registry.tags.clear(NAME)


def delete_repository(registry: Registry) -> None:
    """Delete the repository."""
    registry.repositories.delete(NAME)


@pytest.mark.parametrize("delete", [delete_manifest, clear, delete_repository])
def test_many_tags_are_deleted_in_steps(
    registry: Registry, store: CountingStore, counts: list[int], delete: Callable[[Registry], None]
) -> None:
    """No transaction deletes more than some of them, and none is left in the catalog or the store."""
    digest = push(registry, 1)
    payload = registry.manifests.payload(registry.manifests.find(NAME, TAG))
    tags = [Tag(f"t{number}") for number in range(5 * deletion.STEP)]
    registry.manifests.put(NAME, digest, "", payload, tags=tags)
    counts.clear()
    delete(registry)
    assert registry.tags.list_all(NAME) == ()
    assert not [path for path, _ in store.walk_links() if "/tags/" in path]
    assert max(counts) <= deletion.STEP + 3
    assert len(counts) > 5


def push_tags(registry: Registry) -> Digest:
    """Push an image with five steps of tags, and another one; return its digest."""
    digest = push(registry, 1)
    payload = registry.manifests.payload(registry.manifests.find(NAME, TAG))
    tags = [Tag(f"t{number:05}") for number in range(5 * deletion.STEP)]
    registry.manifests.put(NAME, digest, "", payload, tags=tags)
    return digest


def test_all_tags_are_looked_at_once_for_immutable_ones(registry: Registry, catalog: Catalog) -> None:
    """In the first step, so that nothing is deleted if one stays; others read those that they delete."""
    digest, whole = push_tags(registry), list[str]()
    registry.immutability.add(f"{NAME}:t00999")

    def look(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("SELECT tags.name") and "LIMIT" not in statement:
            whole.append(statement)

    event.listen(catalog.engine, "before_cursor_execute", look)
    with pytest.raises(TagImmutable):
        registry.manifests.delete(NAME, digest)
    assert len(registry.tags.list_all(NAME)) == 5 * deletion.STEP + 1
    registry.immutability.remove(f"{NAME}:t00999")
    registry.immutability.add(f"{NAME}:v*")
    whole.clear()
    registry.manifests.delete(NAME, digest)
    assert len(whole) == 1
    assert registry.tags.list_all(NAME) == ()


def test_a_tag_that_becomes_immutable_during_a_delete_stays(
    registry: Registry, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that would delete it ends the delete; the image stays, too."""
    digest, begin, begun = push_tags(registry), catalog.begin, itertools.count()

    @contextmanager
    def changing(**options: Any) -> Iterator[Transaction]:
        if next(begun) == 2:
            registry.immutability.add(f"{NAME}:t*")
        with begin(**options) as tx:
            yield tx

    monkeypatch.setattr(catalog, "begin", changing)
    with pytest.raises(TagImmutable):
        registry.manifests.delete(NAME, digest)
    left = registry.tags.list_all(NAME)
    assert 2 * deletion.STEP < len(left) < 5 * deletion.STEP
    assert registry.manifests.find(NAME, digest)


def test_images_are_deleted_before_what_they_build_on(registry: Registry, catalog: Catalog) -> None:
    """Whatever step a delete of a repository ends with, the images that are left have their parents."""
    for seed in "ab":
        push_v1(registry, NAME, Tag(seed), builders.v1_chain(LAYER, LAYER, LAYER, LAYER, seed=seed))
    with catalog.read() as tx:
        row = tx.repositories.find(NAME)
        left = {image: registry.v1_images.peek(NAME, image) for image in tx.v1_images.list(NAME)}
    assert row
    clear(registry)
    for digest in {registry.bridge.manifest_of(NAME, image) for image in left} - {None}:
        registry.manifests.delete(NAME, digest)  # type: ignore[arg-type]  # not None
    while left:
        with catalog.begin() as tx:
            for image in tx.v1_images.clear(row.id, 3):
                del left[image]
        assert {image.parent for image in left.values() if image and image.parent} <= left.keys()


@pytest.mark.slow
def test_a_step_does_not_look_at_all_images(sqlite_catalog: Catalog) -> None:
    """Deleting some of 2,000 images in chains takes no longer than deleting some of 50."""
    costs = [cost_of_step(sqlite_catalog, NAME, 50), cost_of_step(sqlite_catalog, BASE, 2000)]
    assert 0 < costs[1] < 2 * costs[0]


def cost_of_step(catalog: Catalog, name: RepositoryName, count: int) -> int:
    """Return how many instructions SQLite executes to delete five of *count* images, in chains of ten."""
    steps, document = itertools.count(), Digest.of(b"{}")
    with catalog.begin() as tx:
        row = tx.repositories.ensure(name)
        tx.blobs.admit(document, 2)
        tx.blobs.link(row.id, document)
        for number in range(count):
            parent = ImageId(f"{number - 1:064x}") if number % 10 else None
            tx.v1_images.begin(row.id, V1Image(ImageId(f"{number:064x}"), parent, b"{}"), document)
        connection: Any = tx.v1_images.connection.connection.driver_connection
        connection.set_progress_handler(lambda: next(steps) < 0, 1)
        assert len(tx.v1_images.clear(row.id, 5)) == 5
        connection.set_progress_handler(None, 0)
    return next(steps)


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

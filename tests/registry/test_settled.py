"""What was committed a moment ago is durable before a request answers for it, or bytes go because of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog, Transaction
from dualreg.errors import BlobUnknown, ManifestUnknown, RegistryError, RepositoryUnknown, TagUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, UploadId
from dualreg.maintenance.rebuild import Rebuild
from dualreg.registry import Registry
from dualreg.registry.state import Retention
from tests import builders
from tests.conftest import Clock, GuardedCatalog, GuardedStore
from tests.databases import empty_database
from tests.properties.registries import push_v2

NAME, TAG = RepositoryName("team/app"), Tag("v1")
IMAGE = builders.image(builders.layer({"a": b"layer"}))
LAYER = Digest.of(IMAGE.layers[0])


class Journal(list[str]):
    """Commits, waits for them, and removed bytes, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Record what happens from now on."""
        for owner, name in (
            (Catalog, "begin"),
            (Catalog, "settle"),
            (GuardedStore, "remove"),
            (GuardedStore, "discard"),
        ):
            monkeypatch.setattr(owner, name, self._recorded(name, getattr(owner, name)))

    def _recorded(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def recorded(*args: object, **kwargs: object) -> object:
            self.append(name)
            return call(*args, **kwargs)

        return recorded


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    """What happens, in order."""
    return Journal(monkeypatch)


@pytest.mark.parametrize(
    ("delete", "error"),
    [
        (lambda registry: registry.blobs.delete(NAME, LAYER), BlobUnknown),
        (lambda registry: registry.tags.delete(NAME, TAG), TagUnknown),
        (lambda registry: registry.tags.clear(NAME), RepositoryUnknown),
        (lambda registry: registry.manifests.delete(NAME, IMAGE.digest), ManifestUnknown),
        (lambda registry: registry.repositories.delete(NAME), RepositoryUnknown),
    ],
    ids=["blob", "tag", "tags", "manifest", "repository"],
)
def test_a_deletion_that_is_repeated(
    registry: Registry,
    journal: Journal,
    delete: Callable[[Registry], None],
    error: type[RegistryError],
) -> None:
    """The first one may still wait for the disk when the second one finds nothing."""
    if error is BlobUnknown:
        registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    else:
        push_v2(registry, NAME, TAG, IMAGE)
    delete(registry)
    journal.clear()
    with pytest.raises(error):
        delete(registry)
    assert journal == ["begin", "settle"]


def test_a_promise_that_another_request_made(registry: Registry, journal: Journal, clock: Clock) -> None:
    """It may still wait for the disk, if it is not older than a minute."""
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    clock.advance(timedelta(hours=13))
    registry.blobs.stat(NAME, LAYER)
    journal.clear()
    registry.blobs.stat(NAME, LAYER)
    assert journal == ["settle"]
    clock.advance(timedelta(minutes=2))
    registry.blobs.stat(NAME, LAYER)
    assert journal == ["settle"]


def test_bytes_are_released_after_the_link_is_gone(
    registry: Registry, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave a link to a blob without bytes."""
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    links, remove = list[object](), GuardedStore.remove

    def look(store: GuardedStore, digest: Digest, aside: UploadId) -> None:
        links.append(registry.blobs.find(NAME, digest))
        remove(store, digest, aside)

    monkeypatch.setattr(GuardedStore, "remove", look)
    journal.clear()
    assert registry.blobs.release(NAME, LAYER)
    assert links == [None]
    assert journal == ["begin", "settle", "discard", "begin", "remove", "settle", "discard"]
    assert not registry.blobs.release(NAME, LAYER)


def test_a_blob_that_is_pushed_while_it_is_released(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays, with its bytes."""
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    begin, begun = GuardedCatalog.begin, list[int]()

    def push_in_between(catalog: GuardedCatalog, **options: Any) -> AbstractContextManager[Transaction]:
        begun.append(1)
        if len(begun) == 2:
            registry.uploads.ingest(NAME, [IMAGE.layers[0]])
        return begin(catalog, **options)

    monkeypatch.setattr(GuardedCatalog, "begin", push_in_between)
    assert not registry.blobs.release(NAME, LAYER)
    with registry.blobs.open(LAYER) as reader:
        assert reader.read() == IMAGE.layers[0]


def test_garbage_without_a_grace(registry: Registry, journal: Journal) -> None:
    """The link may have been deleted by another process, which still waits for the disk."""
    hasty = registry.over(replace(registry.state, retention=Retention(timedelta(0))))
    hasty.uploads.ingest(NAME, [IMAGE.layers[0]])
    hasty.blobs.delete(NAME, LAYER)
    condemned = hasty.garbage.condemned(hasty.garbage.due_at())
    journal.clear()
    assert [each.digest for each in hasty.garbage.delete(condemned)] == [LAYER]
    assert journal == ["settle", "begin", "remove", "settle", "discard"]


def test_staged_bytes_that_no_row_names(registry: Registry, store: GuardedStore, journal: Journal) -> None:
    """The row may have been deleted by another process, which still waits for the disk."""
    stray = UploadId.new()
    store.append(stray, [b"stray"], offset=0)
    journal.clear()
    for each in registry.uploads.strays(datetime.max.replace(tzinfo=UTC)):
        registry.uploads.discard_stray(each)
    assert journal == ["settle", "discard"]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog to be made from the store."""
    with empty_database(tmp_path / "rebuilt") as url, closing(Catalog(url)) as catalog:
        yield catalog


def test_a_rebuild_that_is_complete(
    registry: Registry, store: GuardedStore, other: Catalog, journal: Journal
) -> None:
    """No commit waits, and the last thing is to wait for all."""
    push_v2(registry, NAME, TAG, IMAGE)
    rebuild = Rebuild(other, store)
    rebuild.begin()
    journal.clear()
    assert rebuild.run().complete
    assert (journal.count("settle"), journal[-1]) == (1, "settle")
    assert build_registry(other, store).tags.list(NAME).rows == (TAG,)

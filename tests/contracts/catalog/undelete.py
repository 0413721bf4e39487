"""Undelete under races: with collections that free the bytes, with pushes, and with other restorations."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.errors import DeletedForGood, ManifestUnknown, NotRestorable, PreconditionFailed
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.gc import Collection
from dualreg.registry import Registry
from dualreg.registry.state import Retention
from tests import builders
from tests.conftest import Clock, GuardedStore
from tests.properties.registries import push_v2, read_blob
from tests.soak import short_or_long

NAME, TAG = RepositoryName("team/app"), Tag("1.0")
GRACE = timedelta(hours=1)
IMAGE = builders.image(*(builders.layer({"file": bytes(number)}) for number in range(3)))
ROUNDS = short_or_long(3, 30)


def deleted(catalog: Catalog, clock: Clock) -> Registry:
    """Return a registry whose only image was deleted, and of which no repository has a byte any longer."""
    registry = build_registry(catalog, GuardedStore())
    registry = registry.over(
        replace(registry.state, retention=Retention(GRACE, None, None, timedelta(days=3)))
    )
    push_v2(registry, NAME, TAG, IMAGE)
    delete(registry, clock)
    return registry


def delete(registry: Registry, clock: Clock) -> None:
    """Delete the image, and collect garbage until its bytes would have gone."""
    registry.manifests.delete(NAME, IMAGE.digest)
    for _ in range(3):
        clock.advance(2 * GRACE)
        Collection(registry).run()


def restore(registry: Registry) -> bool:
    """Restore the tag; return False if it is refused."""
    try:
        registry.history.restore(registry.history.restoration(NAME, TAG))
    except (DeletedForGood, ManifestUnknown, NotRestorable, PreconditionFailed):
        return False
    return True


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Return what calls return that begin at once."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [*pool.map(run, calls)]


def is_whole(registry: Registry) -> bool:
    """Return whether the tag is there, with all its bytes; if it is not, nothing of it may be."""
    if registry.manifests.peek(NAME, TAG) is None:
        return False
    assert registry.manifests.payload(registry.manifests.find(NAME, TAG)) == IMAGE.manifest
    assert all(read_blob(registry, NAME, digest) == blob for digest, blob in IMAGE.blobs.items())
    return True


class UndeleteContract:
    """Several restore, push, and collect garbage at once."""

    @pytest.mark.slow
    def test_restorations_at_once(self, catalog: Catalog, clock: Clock) -> None:
        """One of them points the tag, and all find the image whole."""
        registry = deleted(catalog, clock)
        for _ in range(ROUNDS):
            assert any(at_once(*[lambda: restore(registry)] * 4))
            assert is_whole(registry)
            (row,) = registry.history.page(NAME, TAG, limit=1).rows
            assert row.new == IMAGE.digest
            delete(registry, clock)

    @pytest.mark.slow
    def test_a_push_meanwhile(self, catalog: Catalog, clock: Clock) -> None:
        """Whoever comes first, the image is there once."""
        registry = deleted(catalog, clock)
        for _ in range(ROUNDS):
            at_once(lambda: restore(registry), lambda: push_v2(registry, NAME, TAG, IMAGE))
            assert is_whole(registry)
            with catalog.read() as tx:
                assert len(tx.manifests.graph(NAME, IMAGE.digest)) == len(IMAGE.blobs) + 1
            delete(registry, clock)

    @pytest.mark.slow
    def test_a_collection_that_frees_the_bytes_meanwhile(self, catalog: Catalog, clock: Clock) -> None:
        """The image is restored with all its bytes, or is gone with all of them."""
        registry = deleted(catalog, clock)
        for _ in range(ROUNDS):
            restored, _ = at_once(
                lambda: restore(registry), lambda: Collection(registry, undelete=False).run()
            )
            assert restored == is_whole(registry)
            for _ in range(3):
                clock.advance(2 * GRACE)
                Collection(registry, undelete=False).run()
            assert restored == is_whole(registry)
            if not restored:
                assert [*registry.state.store.walk()] == []
                push_v2(registry, NAME, TAG, IMAGE)
            delete(registry, clock)

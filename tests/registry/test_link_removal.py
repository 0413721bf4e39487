"""Services name the link files that they remove: no store has to look for them."""

import re

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.link_tree import FolderLinks
from tests.apps import client_of
from tests.conftest import GuardedStore
from tests.maintenance.world import fill

_REVISION = re.compile(r"(.+)/_manifests/revisions/([^/]+)/([^/]+)/link")


class _Store(GuardedStore):
    """A store that removes what is named and nothing else, and may fail when it has."""

    fails = False

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        super().set_aside(aside, *folders)
        if self.fails:
            raise OSError("it does not answer")


@pytest.fixture
def store() -> _Store:
    """The store."""
    return _Store()


@pytest.fixture
def registry(catalog: Catalog, store: _Store) -> Registry:
    """A registry with content of every kind."""
    registry = build_registry(catalog, store, Settings(sparse_indexes=True))
    fill(client_of(registry))
    return registry


def _names(store: _Store) -> list[RepositoryName]:
    """Return the repositories."""
    found = {re.split("/_(?:layers|manifests|v1)/", path)[0] for path in store.link_paths()}
    return [RepositoryName(each) for each in sorted(found)]


@pytest.mark.slow
def test_nothing_stays_of_a_repository(registry: Registry, store: _Store) -> None:
    """Whatever was pushed to it, converted or seen as something else; if it fails, all of it stays."""
    before = dict(store.walk_links())
    for name in _names(store):
        store.fails = True
        with pytest.raises(OSError, match="does not answer"):
            registry.repositories.delete(name)
        store.fails = False
        assert dict(store.walk_links()) == before
    for name in _names(store):
        registry.repositories.delete(name)
    assert [*store.walk_links()] == []


@pytest.mark.slow
def test_nothing_stays_of_a_manifest(registry: Registry, store: _Store) -> None:
    """Those that others name are deleted after them."""
    while revisions := [*filter(None, map(_REVISION.fullmatch, store.link_paths()))]:
        deleted = 0
        for name, algorithm, digest in (each.groups() for each in revisions):
            try:
                registry.manifests.delete(RepositoryName(name), Digest.parse(f"{algorithm}:{digest}"))
            except RegistryError:
                continue
            deleted += 1
        assert deleted
    assert not [path for path in store.link_paths() if "/_manifests/" in path]

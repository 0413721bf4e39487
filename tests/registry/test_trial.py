"""A registry over another state is one entirely, and a trial changes nothing."""

from collections.abc import Iterator
from dataclasses import replace
from types import FunctionType, ModuleType

from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.state import State
from dualreg.storage.links import Links
from tests import builders
from tests.state import snapshot

_NAME, _TAG = RepositoryName("a"), Tag("1")


def _reachable(root: object) -> Iterator[object]:
    """Yield every object of this package that *root* is made of."""
    seen, waiting = set[int](), [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | FunctionType | ModuleType):
            continue
        seen.add(id(each))
        if not type(each).__module__.startswith(("dualreg", "tests")):
            continue
        yield each
        slots = [name for base in type(each).__mro__ for name in getattr(base, "__slots__", ())]
        waiting += [getattr(each, name) for name in slots if hasattr(each, name)]
        waiting += vars(each).values() if hasattr(each, "__dict__") else ()


def _states(registry: Registry) -> tuple[set[int], set[int], set[int]]:
    """Return which states, catalogs and link files a registry's services work on."""
    parts = [*_reachable(registry)]
    kinds = (State, Catalog, Links)
    states, catalogs, links = ({id(each) for each in parts if isinstance(each, kind)} for kind in kinds)
    return states, catalogs, links


def test_every_service_works_on_the_new_state(registry: Registry) -> None:
    """None keeps the state, catalog or link files of the registry that it was made from."""
    for service in ("tags", "clients", "negotiation"):
        assert any(isinstance(each, Catalog) for each in _reachable(getattr(registry, service)))
    with registry.trial() as tried:
        states, catalogs, links = _states(tried)
        assert (len(states), len(catalogs), len(links)) == (1, 1, 1)
        assert catalogs == {id(tried.state.catalog)} != {id(registry.state.catalog)}
        assert links == {id(tried.state.links)} != {id(registry.state.links)}
    again = registry.over(replace(registry.state))
    assert _states(again)[0] == {id(again.state)} != {id(registry.state)}
    assert again.rules == registry.rules


def test_a_trial_shows_changes_and_leaves_none(registry: Registry) -> None:
    """Its services see what it did until it ends; rows, bytes and link files stay as they were."""
    (image,) = builders.v1_chain(builders.layer({"a": b"1"}))
    registry.v1_images.begin(_NAME, image.id, image.json)
    registry.v1_images.put_layer(_NAME, image.id, [image.layer])
    registry.v1_images.put_checksum(_NAME, image.id, None)
    manifest, layer = registry.bridge.tag(_NAME, _TAG, image.id), Digest.of(image.layer)
    before = snapshot(registry)
    with registry.trial() as tried:
        tried.tags.delete(_NAME, _TAG)
        assert tried.manifests.peek(_NAME, _TAG) is None
        assert tried.tags.list_all(_NAME) == ()
        row = tried.manifests.peek(_NAME, manifest)
        assert row
        assert tried.bridge.view_of(row) == image.id
        tried.manifests.delete(_NAME, manifest, restorable=False)
        assert tried.bridge.manifest_of(_NAME, image.id) is None
        assert tried.v1_images.forget(_NAME, image.id)
        assert tried.v1_images.peek(_NAME, image.id) is None
        assert tried.blobs.release(_NAME, layer, delete_bytes=False)
        assert tried.blobs.find_anywhere(layer) is None
    assert snapshot(registry) == before
    assert registry.manifests.peek(_NAME, _TAG)

"""Tags in an order that no index has: a bounded part of the work of a process."""

from dataclasses import replace

import pytest

from dualreg.catalog import tag_orders
from dualreg.catalog.orders import TagOrder, TooManyToOrder
from dualreg.errors import ServerBusy
from dualreg.image import media_types
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.waiting import WorkSlots
from tests import builders
from tests.properties.registries import push_v2

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"1"}))


@pytest.mark.parametrize("order", TagOrder)
def test_one_after_the_other(registry: Registry, order: TagOrder) -> None:
    """While one thread orders tags, others are refused, but not for an order of an index."""
    push_v2(registry, NAME, Tag("v1"), IMAGE)
    tags = replace(registry.tags, ordering=WorkSlots(1, 0, 0.0))
    with tags.ordering.slot():
        if order.is_indexed:
            assert tags.ordered(NAME, order, limit=1)[0].rows
        else:
            with pytest.raises(ServerBusy):
                tags.ordered(NAME, order, limit=1)
    assert tags.ordered(NAME, order, limit=1)[0].rows


@pytest.mark.parametrize(("steps", "fits"), [(14, True), (13, False), (7, False), (0, False)])
def test_what_is_summed(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    fits: bool,  # noqa: FBT001 -- a column
) -> None:
    """No more than so many children are read, and counted for each tag, also if many tags have the same."""
    others = [builders.image(builders.layer({"a": seed})) for seed in (b"2", b"3")]
    for image in others:
        push_v2(registry, NAME, Tag("part"), image)
    push_v2(registry, NAME, Tag("part"), others[0])
    monkeypatch.setattr(tag_orders, "_STEPS", steps)
    registry.manifests.put(NAME, Tag("both"), media_types.OCI_INDEX, builders.index(*others))
    registry.manifests.put(
        NAME,
        Tag("same"),
        media_types.OCI_INDEX,
        builders.index_of(*(builders.descriptor(each.media_type, each.manifest) for each in others[::-1])),
    )
    names = ["both", "part", "same"]
    if fits:
        page, _ = registry.tags.ordered(NAME, TagOrder.SIZE, limit=9)
        assert sorted(row.name for row in page.rows) == names
    else:
        with pytest.raises(TooManyToOrder, match="need too much"):
            registry.tags.ordered(NAME, TagOrder.SIZE, limit=9)

"""How many images have each layer, compared with a count over everything that was pushed."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from dualreg.catalog import sharing
from dualreg.image.digest import Digest
from dualreg.image.editions import Edition
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import LINUX_AMD64
from dualreg.image.signatures.trust import Trust
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry import Registry, inspection
from tests import builders
from tests.properties.registries import fresh_registry, push_v1, push_v2
from tests.registry.test_plans import plan

NAMES = [RepositoryName(name) for name in ("team/a", "team/b", "other")]
LAYERS = [builders.layer({"file": bytes(10**size)}) for size in range(3)]
CHOSEN = ((0,), (0, 1), (1, 2), (2,))
IMAGES = [builders.image(*(LAYERS[n] for n in chosen)) for chosen in CHOSEN]
CHAINS = [builders.v1_chain(*(LAYERS[n] for n in chosen), seed=str(chosen)) for chosen in CHOSEN]
TAG = Tag("t")

#: The layers of images, and what has each of them as its own, by repository.
Held = dict[RepositoryName, set[tuple[str, Digest]]]


def found(
    registry: Registry, name: RepositoryName, tag: Tag = TAG, reach: Reach = EVERYWHERE
) -> list[tuple[Digest, int, int, bool]]:
    """Return of each layer of an image how many images have it."""
    image = registry.inspection.inspect(name, tag, LINUX_AMD64, Trust(), reach).image
    assert image
    return [(each.layer, each.images, each.v1_images, each.more) for each in image.sharing]


def having(held: Held, names: Sequence[RepositoryName], layer: Digest) -> int:
    """Return how many have a layer in some repositories."""
    return len({who for name in names for who, has in held[name] if has == layer})


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.booleans(), st.integers(0, len(IMAGES) - 1)),
        min_size=1,
        max_size=7,
        unique=True,
    ),
    st.sampled_from([EVERYWHERE, Reach((("team/*",),)), Reach((("*",), ("other", "team/b")))]),
)
def test_it_is_what_a_count_finds(pushes: Sequence[tuple[RepositoryName, bool, int]], reach: Reach) -> None:
    """Each manifest and V1 image counts once, however many repositories have it; hidden ones do not."""
    manifests: Held = {name: set() for name in NAMES}
    v1_images: Held = {name: set() for name in NAMES}
    with fresh_registry() as registry:
        for number, (name, over_v1, chosen) in enumerate(pushes):
            tag = Tag(f"t{number}")
            if over_v1:
                push_v1(registry, name, tag, CHAINS[chosen])
                v1_images[name] |= {(each.id, Digest.of(each.layer)) for each in CHAINS[chosen]}
            else:
                push_v2(registry, name, tag, IMAGES[chosen])
            row = registry.manifests.find(name, tag)
            manifests[name] |= {(str(row.digest), Digest.of(LAYERS[n])) for n in CHOSEN[chosen]}
        for number, (name, _, chosen) in enumerate(pushes):
            seen = [each for each in NAMES if each == name or reach.covers(each)]
            assert found(registry, name, Tag(f"t{number}"), reach) == [
                (layer, having(manifests, seen, layer), having(v1_images, seen, layer), False)
                for layer in (Digest.of(LAYERS[n]) for n in CHOSEN[chosen])
            ]


def test_what_was_made_here_is_no_other_image(registry: Registry) -> None:
    """An edition has the layers of the image that it was made of."""
    push_v2(registry, NAMES[0], TAG, builders.image(*LAYERS[:2], oci=True))
    registry.editions.make(NAMES[0], registry.manifests.find(NAMES[0], TAG), Edition.SCHEMA2)
    push_v2(registry, NAMES[1], TAG, builders.image(LAYERS[0], oci=True))
    assert found(registry, NAMES[0]) == [
        (Digest.of(LAYERS[0]), 2, 0, False),
        (Digest.of(LAYERS[1]), 1, 0, False),
    ]


def test_what_was_made_of_images_that_are_not_counted_is_not_taken_off(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when there are more manifests than are looked at, as they are editions."""
    monkeypatch.setattr(sharing, "_IMAGES", 1)
    for number in range(6):  # whichever of the two is found first
        name = RepositoryName(f"r{number}")
        push_v2(registry, name, TAG, builders.image(LAYERS[0], author=str(number), oci=True))
        registry.editions.make(name, registry.manifests.find(name, TAG), Edition.SCHEMA2)
        ((_, *counts),) = found(registry, name, reach=Reach((("none",),)))
        assert counts == [1, 0, True]


def test_nothing_is_said_of_blobs_that_the_repository_may_not_read(registry: Registry) -> None:
    """A manifest may name any digest; that others have it does not show."""
    push_v2(registry, NAMES[0], TAG, builders.image(LAYERS[0]))
    push_v2(registry, NAMES[1], TAG, builders.image(*LAYERS[:2]))
    own = registry.manifests.find(NAMES[0], TAG).repository_id
    with registry.state.catalog.read() as tx:
        known = tx.uses.sharing(own, [Digest.of(each) for each in LAYERS], EVERYWHERE)
    assert [*known] == [Digest.of(LAYERS[0])]


@pytest.mark.parametrize(
    ("repositories", "images", "everywhere", "limited"),
    [
        (4, 9, (5, True), (1, True)),
        (9, 4, (4, True), (1, False)),
        (9, 9, (6, False), (1, False)),
    ],
)
def test_counts_are_bounded(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    *,
    repositories: int,
    images: int,
    everywhere: tuple[int, bool],
    limited: tuple[int, bool],
) -> None:
    """It is said that there may be more, and the image itself counts in any case."""
    monkeypatch.setattr(sharing, "_REPOSITORIES", repositories)
    monkeypatch.setattr(sharing, "_IMAGES", images)
    for number in range(5):
        image = builders.image(LAYERS[0], author=str(number))
        push_v2(registry, RepositoryName(f"hidden/{number}"), TAG, image)
    push_v2(registry, NAMES[0], TAG, IMAGES[0])
    for reach, expected in ((EVERYWHERE, everywhere), (Reach((("team/*",),)), limited)):
        ((_, count, _, more),) = found(registry, NAMES[0], reach=reach)
        assert (count, more) == expected


def test_the_number_of_layers_is_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are counted; an image may have a thousand."""
    monkeypatch.setattr(inspection, "_SHARING", 2)
    push_v2(registry, NAMES[0], TAG, builders.image(*LAYERS))
    assert [layer for layer, *_ in found(registry, NAMES[0])] == [Digest.of(each) for each in LAYERS[:2]]


def test_one_query_by_indexes(registry: Registry) -> None:
    """For any number of layers: it begins with the layers, and reads no table from end to end."""
    push_v2(registry, NAMES[0], TAG, builders.image(*LAYERS))
    seen = list[tuple[str, Any]]()

    def note(*given_: Any) -> None:
        seen.append((given_[2], given_[3]))

    catalog = registry.state.catalog
    event.listen(catalog.engine, "before_cursor_execute", note)
    found(registry, NAMES[0], reach=Reach((("team/*", "other/*"),)))
    event.remove(catalog.engine, "before_cursor_execute", note)
    ((statement, parameters),) = [each for each in seen if "v1_images.layer" in each[0]]
    if catalog.engine.dialect.name == "sqlite":
        steps = plan(catalog, statement, parameters)
        tables = ("blobs", "repositor", "manifest", "v1_images")
        assert [step for step in steps if step.startswith(tuple(f"SCAN {name}" for name in tables))] == []
        children = [step for step in steps if "manifest_children" in step]
        assert children
        assert all("child=?" in step for step in children)

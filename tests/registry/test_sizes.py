"""Sizes of tags, and lists of repositories, compared with a walk over every manifest."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, insert

from dualreg.catalog import sizes as sizes_module
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import Origin
from dualreg.catalog.sizes import TagSize
from dualreg.catalog.tables import Blobs, ManifestChildren, RepositoryBlobs
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.editions import Edition
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry import Registry
from dualreg.registry import usage as usage_module
from tests import builders
from tests.properties.registries import fresh_registry, push_v1, push_v2
from tests.registry.test_plans import Work

NAMES = [RepositoryName(name) for name in ("a", "b")]
TAGS = [Tag(name) for name in "xyz"]
LAYERS = [builders.layer({"file": bytes(10**size)}) for size in range(4)]
IMAGES = [
    builders.image(*(LAYERS[n] for n in chosen)) for chosen in ((0,), (0, 1), (1, 2), (3,), (0, 1, 2, 3))
]


class Pushed(NamedTuple):
    """A tag of some images: of one, itself; of several, of an index of them. Untagged: the tag is None."""

    repository: RepositoryName
    tag: Tag | None
    images: tuple[int, ...]


pushes = st.lists(
    st.builds(
        Pushed,
        st.sampled_from(NAMES),
        st.sampled_from([*TAGS, None]),
        st.lists(st.integers(0, len(IMAGES) - 1), min_size=1, max_size=2, unique=True).map(tuple),
    ),
    max_size=7,
)

#: What each manifest names, by digest, and the size of everything.
Graph = dict[Digest, set[Digest]]


def push(registry: Registry, pushed: Pushed, graph: Graph, sizes: dict[Digest, int]) -> Digest:
    """Push what it says; note what it consists of, and return the digest of the manifest."""
    name, tag, chosen = pushed
    images = [IMAGES[number] for number in chosen]
    for image in images:
        graph[image.digest] = {*image.blobs}
        sizes |= {digest: len(blob) for digest, blob in image.blobs.items()}
        sizes[image.digest] = len(image.manifest)
        for digest, blob in image.blobs.items():
            registry.uploads.ingest(name, [blob], expected=digest)
        registry.manifests.put(name, image.digest, image.media_type, image.manifest)
    if len(images) == 1:
        document, media_type = images[0].manifest, images[0].media_type
    else:
        document, media_type = builders.index(*images), media_types.OCI_INDEX
    digest = Digest.of(document)
    registry.manifests.put(name, tag or digest, media_type, document)
    if len(images) > 1:
        graph[digest], sizes[digest] = {image.digest for image in images}, len(document)
    return digest


def below(graph: Graph, manifests: set[Digest]) -> set[Digest]:
    """Return manifests and all that they name."""
    found = {*manifests}
    while more := set[Digest]().union(*(graph.get(each, ()) for each in found)) - found:
        found |= more
    return found


def expected(
    tags: Mapping[Tag, Digest], own: set[Digest], others: set[Digest], graph: Graph, sizes: dict[Digest, int]
) -> dict[Tag, TagSize]:
    """Return what each tag needs, given the manifests of its repository and the blobs of the others."""
    found = {}
    for tag, digest in tags.items():
        needed = below(graph, {digest})
        outside = below(graph, (own - needed) | {at for name, at in tags.items() if name != tag})
        alone = needed - outside - others
        found[tag] = TagSize(*(sum(sizes[each] for each in blobs) for blobs in (needed, alone)))
    return found


def of_several(
    tags: Mapping[Tag, Digest],
    going: Sequence[Tag],
    own: set[Digest],
    others: set[Digest],
    known: tuple[Graph, dict[Digest, int]],
) -> TagSize:
    """Return what tags need together, and of that what nothing else does."""
    graph, sizes = known
    needed = below(graph, {tags[tag] for tag in going})
    outside = below(graph, (own - needed) | {at for name, at in tags.items() if name not in going})
    return TagSize(*(sum(sizes[each] for each in blobs) for blobs in (needed, needed - outside - others)))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(pushes)
def test_sizes_are_what_a_walk_finds(given_: Sequence[Pushed]) -> None:
    """With indexes, untagged manifests, several tags of one manifest, and layers in other repositories."""
    graph, sizes = Graph(), dict[Digest, int]()
    tags = {name: dict[Tag, Digest]() for name in NAMES}
    held = {name: set[Digest]() for name in NAMES}
    with fresh_registry() as registry:
        for pushed in given_:
            digest = push(registry, pushed, graph, sizes)
            held[pushed.repository] |= {digest, *(IMAGES[number].digest for number in pushed.images)}
            if pushed.tag:
                tags[pushed.repository][pushed.tag] = digest
        pages = registry.usage.listed(limit=1)
        listed = [*pages[0], *(registry.usage.listed(after=pages[1], limit=1)[0] if pages[1] else ())]
        assert [each.usage.name for each in listed] == sorted(name for name in NAMES if held[name])
        for each in listed:
            name = RepositoryName(each.usage.name)
            rows = registry.tags.describe(name, limit=9).rows
            found = registry.usage.sizes(name, rows)
            (other,) = (held[other] for other in NAMES if other != name)
            wanted = expected(tags[name], held[name], below(graph, other), graph, sizes)
            assert {row.name: found[row.digest] for row in rows} == wanted
            for going in itertools.chain(*(itertools.combinations(TAGS, count) for count in range(4))):
                there = [tag for tag in going if tag in tags[name]]
                together = of_several(tags[name], there, held[name], below(graph, other), (graph, sizes))
                assert registry.usage.together(name, going) == (together if there or not going else None)
            assert (each.tags.tags, each.tags.v1) == (len(rows), 0)
            assert each.tags.pushed_at == max((row.pushed_at for row in rows), default=None)


def test_what_was_made_here_is_no_other(registry: Registry) -> None:
    """Editions name the layers of the image that they were made of, which stay its own; so do V1 images."""
    name, image = NAMES[0], builders.image(LAYERS[0], LAYERS[1], oci=True)
    push_v2(registry, name, TAGS[0], image)
    push_v1(registry, name, TAGS[1], builders.v1_chain(LAYERS[2]))
    before = registry.usage.sizes(name, registry.tags.describe(name, limit=9).rows)
    assert {size.own - size.bytes for size in before.values()} == {0}
    row = registry.manifests.find(name, TAGS[0])
    made = registry.editions.make(name, row, Edition.SCHEMA2)
    assert made.digest != row.digest
    registry.bridge.images(name)
    assert registry.usage.sizes(name, registry.tags.describe(name, limit=9).rows) == before


def test_sizes_of_a_page_take_one_query(registry: Registry) -> None:
    """However many tags it has, and also of manifests that were deleted meanwhile."""
    for number in range(20):
        push_v2(registry, NAMES[0], Tag(f"t{number}"), builders.image(builders.layer({f"{number}": b"x"})))
    rows = registry.tags.describe(NAMES[0], limit=30).rows
    gone = replace(rows[0], digest=Digest.of(b"gone"))
    seen, engine = list[str](), registry.state.catalog.engine

    def note(*event_: Any) -> None:
        seen.append(event_[2])

    event.listen(engine, "before_cursor_execute", note)
    found = registry.usage.sizes(NAMES[0], [*rows, gone])
    event.remove(engine, "before_cursor_execute", note)
    assert (len(found), found.get(gone.digest)) == (20, None)
    assert all(found[row.digest].own for row in rows)
    assert sum("needed" in statement for statement in seen) == 1
    assert len(seen) <= 4


def test_repositories_are_listed(registry: Registry) -> None:
    """Those of a pattern, with the origins of their tags; one without tags was never pushed or pulled."""
    push_v2(registry, NAMES[0], TAGS[0], IMAGES[0])
    push_v1(registry, NAMES[0], TAGS[1], builders.v1_chain(LAYERS[0]))
    registry.uploads.ingest(NAMES[1], [b"blob"])
    (one,), after = registry.usage.listed(limit=1)
    assert (one.usage.name, one.tags.tags, one.tags.v1, after) == ("a", 2, 1, "a")
    (two,), after = registry.usage.listed(limit=5, reach=Reach((("b*",),)))
    assert (two.usage.name, two.usage.own, two.tags.tags, two.tags.pushed_at, after) == (
        "b",
        4,
        0,
        None,
        None,
    )
    row = registry.tags.describe(NAMES[0], limit=1, reader=Origin.V1).rows[0]
    assert one.tags.pushed_at == max(
        row.pushed_at, registry.tags.describe(NAMES[0], limit=1).rows[0].pushed_at
    )


def test_what_needs_too_much_is_not_added_up(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly as much as allowed is, also together; other tags of the page have their sizes."""
    name, images = NAMES[0], [IMAGES[0], IMAGES[4]]  # of 3 and of 6 documents and layers
    for tag, image in zip(TAGS, images, strict=False):
        push_v2(registry, name, tag, image)
    rows = registry.tags.describe(name, limit=9).rows
    whole, both = registry.usage.sizes(name, rows), registry.usage.together(name, TAGS)
    for enough, known in ((2, set()), (5, {images[0].digest}), (6, {each.digest for each in images})):
        monkeypatch.setattr(sizes_module, "ENOUGH", enough)
        assert registry.usage.sizes(name, rows) == {each: whole[each] for each in known}
    monkeypatch.setattr(sizes_module, "_ENOUGH_OF_PAGE", 11)
    assert registry.usage.sizes(name, rows) == {images[0].digest: whole[images[0].digest]}
    for enough, found in ((7, None), (8, both)):  # they share a layer
        monkeypatch.setattr(sizes_module, "_ENOUGH_TOGETHER", enough)
        assert registry.usage.together(name, TAGS) == found


def _name_blobs(catalog: Catalog, numbers: range, manifests: Sequence[Digest]) -> None:
    """Have manifests of the first repository name blobs that are not there otherwise."""
    named = [Digest("sha256", f"{number:064x}") for number in numbers]
    with catalog.begin() as tx:
        known = tx.repositories.find(NAMES[0])
        assert known
        blobs = [{"digest": each, "size": 1, "created_at": tx.now, "verified_at": tx.now} for each in named]
        links = [{"repository_id": known.id, "digest": each, "linked_at": tx.now} for each in named]
        child = {"repository_id": known.id, "role": "layer", "position": 9}
        tx.connection.execute(insert(Blobs), blobs)
        tx.connection.execute(insert(RepositoryBlobs), links)
        for manifest in manifests:
            rows = [child | {"manifest": manifest, "child": each} for each in named]
            tx.connection.execute(insert(ManifestChildren), rows)


@pytest.mark.sqlite
def test_what_tags_share_costs_in_proportion(registry: Registry) -> None:
    """Sizes of tags that share ten times as much take ten times as long, and not a hundred times."""
    name, images = NAMES[0], [IMAGES[0], IMAGES[1]]
    for tag, image in zip(TAGS, images, strict=False):
        push_v2(registry, name, tag, image)
    rows, catalog = registry.tags.describe(name, limit=9).rows, registry.state.catalog
    calls = (partial(registry.usage.sizes, name, rows), partial(registry.usage.together, name, TAGS[:1]))
    work, costs = Work(catalog), list[list[int]]()
    for numbers in (range(100), range(100, 1_000)):
        _name_blobs(catalog, numbers, [image.digest for image in images])
        assert all(call() for call in calls)
        costs.append([work.of_call(call) for call in calls])
    for few, many in zip(*costs, strict=True):
        assert 0 < many < 15 * few


@pytest.mark.slow
@pytest.mark.sqlite
def test_what_needs_too_much_costs_little(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that names very much is not read through."""
    name, image = NAMES[0], IMAGES[0]
    push_v2(registry, name, TAGS[0], image)
    rows, catalog = registry.tags.describe(name, limit=9).rows, registry.state.catalog
    _name_blobs(catalog, range(20_000), [image.digest])
    calls = (partial(registry.usage.sizes, name, rows), partial(registry.usage.together, name, TAGS))
    work, costs = Work(catalog), dict[int, list[int]]()
    for enough in (2_000, 200_000):
        for limit in ("ENOUGH", "_ENOUGH_OF_PAGE", "_ENOUGH_TOGETHER"):
            monkeypatch.setattr(sizes_module, limit, enough)
        assert [bool(call()) for call in calls] == [enough > 2_000] * 2
        costs[enough] = [work.of_call(call) for call in calls]
    for little, all_ in zip(*costs.values(), strict=True):
        assert 0 < 5 * little < all_


def test_repositories_are_listed_with_a_tag(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have one that begins as is asked, on pages, of which some only say where to go on."""
    for name in (*"abcdefgh", "x/h"):
        push_v2(registry, RepositoryName(name), Tag("1.2" if name in "aeh" else "2.0"), IMAGES[0])
    push_v2(registry, RepositoryName("x/h"), Tag("1.2.1"), IMAGES[0])

    def walk(limit: int, tag: str, reach: Reach = EVERYWHERE) -> list[list[tuple[str, str | None]]]:
        pages, after = list[list[tuple[str, str | None]]](), cast("str | None", "")
        while after is not None:
            rows, after = registry.usage.listed(after=after, limit=limit, reach=reach, tag=tag)
            pages.append([(row.usage.name, row.tag) for row in rows])
        return pages

    every = [("a", "1.2"), ("e", "1.2"), ("h", "1.2"), ("x/h", "1.2.1")]
    assert walk(9, "1.") == [every]
    assert walk(2, "1.") == [every[:2], every[2:]]
    assert walk(9, "1.2.", Reach((("*h*",),))) == [every[3:]]
    assert walk(9, "3") == [[]]
    monkeypatch.setattr(usage_module, "SCAN_LIMIT", 3)
    monkeypatch.setattr(usage_module, "_STEP", 2)
    assert walk(9, "1.") == [every[:1], every[1:2], every[2:]]
    assert walk(9, "1.2.") == [[], [], every[3:]]
    assert walk(9, "1.2.", Reach((("*h*",),))) == [every[3:]]

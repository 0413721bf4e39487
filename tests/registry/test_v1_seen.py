"""What V1 clients see many tags as, found together, against what they see of each, one by one."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.lookup import Lookup
from dualreg.migrate.v1_lookup import V1Lookup
from dualreg.registry import Registry
from dualreg.registry.v1_seen import SeenImage
from dualreg.registry.visibility import Visibility
from tests import builders
from tests.conftest import GuardedStore
from tests.migrate.stock_trees import LAYERS
from tests.properties.registries import push_v1, push_v2
from tests.protocol.clients.schema1 import push_chain

NAME = RepositoryName("team/app")
#: A layer with the same files as another one.
AGAIN = gzip.compress(gzip.decompress(LAYERS["a"]), 1, mtime=1)


def fill(registry: Registry) -> None:
    """Push one image of every sort, with layers that they share."""
    images = {
        "docker": builders.image(LAYERS["a"], LAYERS["b"]),
        "history": builders.image(LAYERS["a"], LAYERS["b"], author="other"),
        "again": builders.image(AGAIN, LAYERS["c"]),
        "oci": builders.image(LAYERS["a"], LAYERS["c"], oci=True),
        "zstd": builders.zstd_image(LAYERS["d"]),
        "windows": builders.image(LAYERS["a"], os="windows"),
        "signature": builders.artifact("application/vnd.example+json", b"{}"),
        "empty": builders.image(),
    }
    for tag, image in images.items():
        push_v2(registry, NAME, Tag(tag), image)
    registry.manifests.put(NAME, Tag("same"), images["docker"].media_type, images["docker"].manifest)
    for tag, architectures in (("index", ("arm64", "amd64")), ("arm", ("arm64", "s390x"))):
        index = builders.index(images["oci"], images["docker"], architectures=architectures)
        registry.manifests.put(NAME, Tag(tag), media_types.OCI_INDEX, index)
    document = json.dumps({"mediaType": "application/x.test+json"}).encode()
    registry.manifests.put(NAME, Tag("unknown"), "application/x.test+json", document)
    push_v1(registry, NAME, Tag("old"), old := builders.v1_chain(LAYERS["e"], LAYERS["f"]))
    push_chain(registry, NAME, "signed", builders.v1_chain(LAYERS["g"], seed="signed"))
    push_chain(registry, NAME, "taken", [replace(old[0], layer=LAYERS["h"])])


def content(registry: Registry, images: tuple[SeenImage, ...]) -> list[Mapping[str, object]]:
    """Return what is exported of images."""
    return [
        {
            **each.row.columns(),
            "bytes": registry.documents.read(each.row.json) if each.json is None else each.json,
        }
        for each in images
    ]


@pytest.mark.parametrize("bridge", ["both", "v1-to-v2"])
def test_many_tags_are_seen_as_each_is(registry: Registry, bridge: str) -> None:
    """Before their views are recorded, and after that; looking ahead records nothing."""
    registry = registry.build(registry.state, replace(registry.rules, visibility=Visibility.parse(bridge)))
    fill(registry)
    tags = registry.tags.list_all(NAME)
    found = list[dict[str, object]]()
    for kind in (V1Lookup, Lookup, V1Lookup):
        lookup = kind(registry, NAME)
        lookup.look_ahead(tags)
        if not found:  # nothing was recorded so far but what a push records
            recorded = {tag for tag, each in registry.bridge.seen.tags(NAME, tags).items() if each.is_known}
            assert recorded == ({"old"} if bridge == "both" else {*tags})
        found.append({tag: content(registry, lookup.seen(tag)) for tag in tags})
    assert found[0] == found[1] == found[2]
    is_seen = {tag for tag, images in found[0].items() if images}
    both = {"again", "docker", "empty", "history", "index", "oci", "same", "signed", "zstd"}
    assert is_seen == {"old"} | (both if bridge == "both" else set())


def test_many_tags_take_few_statements(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one: of V1 images that clients pushed, and of manifests that were never seen as any."""
    for number in range(8):
        push_v1(
            registry, NAME, Tag(f"old{number}"), builders.v1_chain(LAYERS["e"], LAYERS["f"], seed=f"{number}")
        )
        push_v2(registry, NAME, Tag(f"new{number}"), builders.image(LAYERS["a"], author=f"{number}"))
    counts, read = list[int](), registry.state.catalog.read
    for count in (1, 8):
        tags = [Tag(f"{kind}{number}") for kind in ("old", "new") for number in range(count)]
        reads = list[object]()
        monkeypatch.setattr(
            registry.state.catalog, "read", lambda reads=reads, **more: reads.append(0) or read(**more)
        )
        lookup = V1Lookup(registry, NAME)
        lookup.look_ahead(tags)
        assert [len(lookup.seen(tag)) for tag in tags] == [2] * count + [1] * count
        counts.append(len(reads))
    assert counts[0] == counts[1]


def test_many_ancestors_are_found_tag_by_tag(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few of them are in memory at once; they are the same."""
    chains = [builders.v1_chain(*LAYERS.values(), seed=seed) for seed in ("one", "two")]
    for number, chain in enumerate(chains):
        push_v1(registry, NAME, Tag(f"{number}"), chain)
    tops = [chain[-1].id for chain in chains]
    for limit, number in ((2 * len(LAYERS), 2), (2 * len(LAYERS) - 1, 0)):
        monkeypatch.setattr("dualreg.registry.v1_seen._LIMIT", limit)
        assert len(registry.bridge.seen.ancestries(NAME, tops)) == number
        lookup = V1Lookup(registry, NAME)
        lookup.look_ahead([Tag("0"), Tag("1")])
        for tag, chain in enumerate(chains):
            assert [each.row.id for each in lookup.seen(Tag(f"{tag}"))] == [each.id for each in chain[::-1]]


def test_a_json_that_cannot_be_read(
    registry: Registry, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its own tag from being exported, and no other."""
    base = ImageId(Digest.of(gzip.decompress(LAYERS["a"])).hex)
    document = json.dumps({"id": base, "author": "somebody"}).encode()
    push_v1(registry, NAME, Tag("old"), [builders.V1Pushed(base, document, LAYERS["a"])])
    push_v2(registry, NAME, Tag("on it"), builders.image(LAYERS["a"], LAYERS["b"]))
    push_v2(registry, NAME, Tag("well"), builders.image(LAYERS["c"]))
    fresh, opened = registry.build(registry.state, registry.rules), store.open

    def refused(digest: Digest, **part: int) -> BinaryIO:
        if digest == Digest.of(document):
            raise PermissionError
        return opened(digest, **part)

    monkeypatch.setattr(store, "open", refused)
    lookup = V1Lookup(fresh, NAME)
    lookup.look_ahead([Tag("on it"), Tag("well")])
    assert lookup.seen(Tag("well"))
    with pytest.raises(PermissionError):
        lookup.seen(Tag("on it"))


def test_ancestors_that_are_lost(registry: Registry) -> None:
    """An image is left out whose parent is not there; others are found."""
    push_v1(registry, NAME, Tag("old"), chain := builders.v1_chain(LAYERS["e"], LAYERS["f"]))
    registry.v1_images.begin(
        NAME,
        begun := ImageId(Digest.of(b"begun").hex),
        json.dumps({"id": begun, "parent": chain[0].id}).encode(),
    )
    found = registry.bridge.seen.ancestries(NAME, [chain[1].id, begun, ImageId("0" * 64)])
    assert {image: [row.id for row in rows] for image, rows in found.items()} == {
        chain[1].id: [chain[1].id, chain[0].id]
    }

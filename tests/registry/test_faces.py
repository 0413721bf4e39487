"""Both faces of tags: which V1 image stands opposite which layer, and who sees the tag, and why."""

import lzma
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dualreg.errors import ManifestUnknown, RepositoryUnknown
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.jws import SigningKey, sign
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.signatures.trust import Trust
from dualreg.registry import Registry
from dualreg.registry.faces import Faces
from dualreg.registry.visibility import Visibility
from tests import builders
from tests.migrate.stock_trees import schema1_payload
from tests.properties.registries import push_v1, push_v2

NAME, TAG = RepositoryName("team/app"), Tag("v1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LAYERS = [builders.layer({name: b"x"}) for name in "ab"]
DIGESTS = [Digest.of(each) for each in LAYERS]
HISTORY = [
    {"created_by": "ADD a"},
    {"created_by": "ENV A=1", "empty_layer": True},
    {"created_by": "ADD b"},
]
CHAIN = builders.v1_chain(LAYERS[0], EMPTY_LAYER, LAYERS[1])


def _see(registry: Registry) -> None:
    """Have V1 clients read the tags, for which views are derived."""
    with suppress(RepositoryUnknown):  # they see none
        registry.bridge.tags(NAME)


def _faces(registry: Registry, v1: str = "on") -> Faces:
    return registry.comparison.faces(NAME, TAG, Trust(), v1)


def _pairs(found: Faces) -> list[tuple[bool, bool, Digest | None, str]]:
    return [(each.image is not None, each.pushed, each.layer, each.created_by) for each in found.pairs]


def test_a_pushed_chain(registry: Registry) -> None:
    """Each image is opposite its step; one without files has no layer in the manifest."""
    push_v1(registry, NAME, TAG, CHAIN)
    found = _faces(registry)
    assert [each.image for each in found.pairs] == [each.id for each in CHAIN]
    assert [each.layer for each in found.pairs] == [DIGESTS[0], None, DIGESTS[1]]
    assert all(each.pushed and not each.recompressed for each in found.pairs)
    assert "step <1>" in found.pairs[1].created_by
    assert found.image == CHAIN[-1].id
    assert found.signatures == 0
    assert found.provenance.startswith(
        "Pushed over V1, and converted to schema 2 by this registry. No signature"
    )


def test_a_layer_that_v2_clients_cannot_read(registry: Registry) -> None:
    """It is opposite what was made of it."""
    push_v1(registry, NAME, TAG, builders.v1_chain(lzma.compress(builders.tar({"a": b""}))))
    (pair,) = _faces(registry).pairs
    assert pair.recompressed
    assert pair.layer


def test_a_derived_chain(registry: Registry) -> None:
    """There is an image for each layer once V1 clients have read the tags, and none for other steps."""
    push_v2(registry, NAME, TAG, builders.image(*LAYERS, oci=True, history=HISTORY))
    texts = ["ADD a", "ENV A=1", "ADD b"]
    layers = [DIGESTS[0], None, DIGESTS[1]]
    assert _pairs(_faces(registry)) == [(False, False, *each) for each in zip(layers, texts, strict=True)]
    assert _faces(registry).provenance.startswith("Pushed over V2 as an OCI image. No signature")
    _see(registry)
    found = _faces(registry)
    assert _pairs(found) == [
        (layer is not None, False, layer, text) for layer, text in zip(layers, texts, strict=True)
    ]
    assert found.image == registry.bridge.tags(NAME)[TAG] == found.pairs[-1].image
    assert "This registry derived the V1 images." in found.provenance


@pytest.mark.parametrize("history", [[], [{"created_by": "squash", "empty_layer": True}]])
def test_an_image_without_layers(registry: Registry, history: list[object]) -> None:
    """The one V1 image that it becomes is shown all the same."""
    push_v2(registry, NAME, TAG, builders.image(history=history))
    _see(registry)
    (pair,) = _faces(registry).pairs
    assert pair.image
    assert pair.layer is None


def test_schema_1(registry: Registry) -> None:
    """Its IDs are shown even before V1 clients have read the tags, and are the same afterwards."""
    payload = sign(schema1_payload(NAME, TAG, *LAYERS), SigningKey.generate(), NOW)
    for layer in LAYERS:
        registry.uploads.ingest(NAME, [layer])
    registry.manifests.put(NAME, TAG, media_types.SCHEMA1_SIGNED, payload)
    before = _faces(registry)
    _see(registry)
    after = _faces(registry)
    ids = [each.id for each in builders.v1_chain(*LAYERS, seed=f"{NAME}:{TAG}")]
    assert [each.image for each in before.pairs] == [each.image for each in after.pairs] == ids
    assert [each.layer for each in after.pairs] == DIGESTS
    assert before.image is None
    assert after.image == ids[-1]


@pytest.mark.parametrize(
    ("bridge", "v1", "seen", "text"),
    [
        ("both", "on", (True, True), "V1 clients see it, by bridge = both."),
        ("both", "off", (False, True), "V1 clients do not see it: V1 is off."),
        ("v1-to-v2", "on", (False, True), "V1 clients do not see it, by bridge = v1-to-v2."),
        ("off,team/*=both", "readonly", (True, True), "V2 clients see it, by bridge = team/*=both."),
        ("other/*=off,v2-to-v1", "on", (True, True), "by bridge = v2-to-v1."),
    ],
)
def test_who_sees_what_was_pushed_over_v2(
    registry: Registry, bridge: str, v1: str, seen: tuple[bool, bool], text: str
) -> None:
    """The pattern that decides is named."""
    push_v2(registry, NAME, TAG, builders.image(*LAYERS))
    made = registry.build(registry.state, replace(registry.rules, visibility=Visibility.parse(bridge)))
    found = _faces(made, v1)
    assert (found.seen_by_v1, found.seen_by_v2) == seen
    assert text in found.visibility


def test_who_sees_what_was_pushed_over_v1(registry: Registry) -> None:
    """Others do not, if the setting says so."""
    push_v1(registry, NAME, TAG, CHAIN)
    made = registry.build(registry.state, replace(registry.rules, visibility=Visibility.parse("v2-to-v1")))
    found = _faces(made)
    assert (found.seen_by_v1, found.seen_by_v2) == (True, False)
    assert found.visibility.endswith("V2 clients do not see it by this tag, by bridge = v2-to-v1.")


def test_what_v1_clients_cannot_use(registry: Registry) -> None:
    """An image of another system has no V1 face, which is said once it is known."""
    push_v2(registry, NAME, TAG, builders.image(*LAYERS, os="windows"))
    _see(registry)
    found = _faces(registry)
    assert not found.seen_by_v1
    assert "it has no form that they can use" in found.visibility
    assert [each.image for each in found.pairs] == [None, None]


def test_an_index(registry: Registry) -> None:
    """The image for linux/amd64 is compared, as V1 clients get that."""
    image, other = builders.image(*LAYERS), builders.image(LAYERS[1], architecture="arm64")
    for number, each in enumerate((image, other)):
        push_v2(registry, NAME, Tag(f"image{number}"), each)
    payload = builders.index(image, other)
    registry.manifests.put(NAME, TAG, media_types.OCI_INDEX, payload)
    _see(registry)
    found = _faces(registry)
    assert found.manifest == image.digest
    assert [each.layer for each in found.pairs] == DIGESTS
    assert all(each.image for each in found.pairs)


def test_a_tag_that_does_not_exist(registry: Registry) -> None:
    """It has no faces."""
    with pytest.raises(ManifestUnknown):
        _faces(registry)


def test_a_manifest_that_is_lost(registry: Registry) -> None:
    """The error says so."""
    image = builders.image(*LAYERS)
    push_v2(registry, NAME, TAG, image)
    registry.state.store.delete(image.digest)
    with pytest.raises(ManifestUnknown):
        _faces(registry.over(registry.state))  # which remembers no documents

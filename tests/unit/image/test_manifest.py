"""Manifests of every format: what they name, and what is no manifest."""

import json
from typing import Any

import pytest

from dualreg.errors import ManifestInvalid
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import FORMATS, Role
from dualreg.image.manifest import parse, stored
from tests.builders import descriptor, image, index, layer

CONFIG = descriptor(media_types.OCI_CONFIG, b"config")
LAYER = descriptor(media_types.OCI_LAYER_GZIP, b"layer")
CHILD = descriptor(media_types.OCI_MANIFEST, b"child", platform={"os": "linux", "architecture": "amd64"})
SUBJECT = descriptor(media_types.OCI_MANIFEST, b"subject")


def _image(media_type: str = media_types.OCI_MANIFEST, **members: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_type, "config": CONFIG, "layers": [LAYER], **members}


def _index(media_type: str = media_types.OCI_INDEX, **members: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": [CHILD], **members}


def _without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def _bytes(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize("media_type", sorted(media_types.IMAGES))
def test_images_name_their_config_and_layers(media_type: str) -> None:
    """An image's children are its config, then its layers, base first; duplicates are kept."""
    second = descriptor(media_types.OCI_LAYER_GZIP, b"second")
    payload = _bytes(_image(media_type, layers=[LAYER, second, LAYER]))
    manifest = parse(media_type, payload)
    assert manifest.payload == payload
    assert manifest.digest == Digest.of(payload)
    assert [(child.role, child.descriptor.to_json()) for child in manifest.children] == [
        (Role.CONFIG, CONFIG),
        (Role.LAYER, LAYER),
        (Role.LAYER, second),
        (Role.LAYER, LAYER),
    ]
    assert manifest.artifact_type == media_types.OCI_CONFIG
    assert manifest.subject is None


@pytest.mark.parametrize("media_type", sorted(media_types.INDEXES))
def test_indexes_name_their_manifests(media_type: str) -> None:
    """An index's children are manifests, in order, with their platforms."""
    manifest = parse(media_type, _bytes(_index(media_type)))
    (child,) = manifest.described(Role.MANIFEST)
    assert (child.to_json(), child.platform) == (_without(CHILD, "platform"), CHILD["platform"])
    assert manifest.described(Role.LAYER) == ()
    assert manifest.artifact_type == ""


def test_every_format_is_covered_here() -> None:
    """The tables above run over all formats that are known."""
    artifacts = {media_types.OCI_ARTIFACT, media_types.ORAS_ARTIFACT}  # of which test_referrers.py has more
    images = media_types.IMAGES | media_types.INDEXES | {media_types.SCHEMA1_SIGNED}
    assert set(FORMATS) == images | artifacts


@pytest.mark.parametrize("document", [_image(), _index()], ids=["image", "index"])
def test_subject_and_artifact_type_are_read(document: dict[str, Any]) -> None:
    """Referrers are found by these two members, of images and indexes alike."""
    payload = _bytes(document | {"subject": SUBJECT, "artifactType": "application/x"})
    manifest = parse(document["mediaType"], payload)
    assert manifest.subject is not None
    assert (manifest.subject.to_json(), manifest.artifact_type) == (SUBJECT, "application/x")


def test_the_digest_uses_the_algorithm_asked_for() -> None:
    """A manifest put by a sha512 digest is known by it."""
    payload = _bytes(_image())
    assert parse("", payload, algorithm="sha512").digest == Digest.of(payload, "sha512")


@pytest.mark.parametrize("content_type", ["", "application/json", "application/octet-stream"])
@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (_image(), media_types.OCI_MANIFEST),
        (_image(media_types.DOCKER_MANIFEST), media_types.DOCKER_MANIFEST),
        (_index(media_types.DOCKER_LIST), media_types.DOCKER_LIST),
        (_without(_image(), "mediaType"), media_types.OCI_MANIFEST),
        (_without(_index(), "mediaType"), media_types.OCI_INDEX),
        ({"mediaType": "application/x"}, "application/x"),
    ],
)
def test_without_a_type_the_document_says_it(
    content_type: str, document: dict[str, Any], expected: str
) -> None:
    """A client that sends no useful Content-Type is understood by what it sends."""
    assert parse(content_type, _bytes(document)).media_type == expected


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"layers": [LAYER]}, {"mediaType": None}])
def test_a_document_without_any_type_is_refused(document: dict[str, Any]) -> None:
    """Neither Content-Type nor members that tell: nothing is guessed."""
    with pytest.raises(ManifestInvalid):
        parse("", _bytes(document))


@pytest.mark.parametrize("stated", ["a b", "x/y\r\nz: 1", "x/\0", "x/\u00e9", "x" * 256])
def test_a_type_that_cannot_be_a_header_is_refused(stated: str) -> None:
    """The type is sent back as Content-Type, so it must be one, even if only the document states it."""
    with pytest.raises(ManifestInvalid) as caught:
        parse("", _bytes({"mediaType": stated}))
    assert caught.value.media_type == stated[:200]


@pytest.mark.parametrize("document", [_image(), _index()], ids=["image", "index"])
def test_annotations_are_read(document: dict[str, Any]) -> None:
    """The document's own annotations, not those of its descriptors; none is an empty mapping."""
    annotated = document | {"annotations": {"a": "b"}}
    assert parse("", _bytes(annotated)).annotations == {"a": "b"}
    assert parse("", _bytes(document)).annotations == {}


@pytest.mark.parametrize("document", [{}, {"mediaType": "application/x", "config": 1, "layers": "no"}])
def test_unknown_types_are_opaque(document: dict[str, Any]) -> None:
    """A JSON object of a type nobody knows is kept as it is and names nothing."""
    manifest = parse("application/x", _bytes(document))
    assert (manifest.media_type, manifest.children, manifest.subject) == ("application/x", (), None)


@pytest.mark.parametrize("bad", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff{}", b'{"A":1,"a":2}'])
@pytest.mark.parametrize("media_type", ["", "application/x", *sorted(FORMATS)])
def test_what_is_no_json_object_is_no_manifest(media_type: str, bad: bytes) -> None:
    """Not even a type that nobody knows may be sloppy JSON."""
    with pytest.raises(ManifestInvalid):
        parse(media_type, bad)


_CONFUSED = [
    pytest.param(_image(manifests=[CHILD]), id="image with manifests"),
    pytest.param(_image(manifests=None), id="image with null manifests"),
    pytest.param(_without(_image(), "layers") | {"Layers": [LAYER]}, id="Layers"),
    pytest.param(_image(Manifests=[]), id="image with Manifests"),
    pytest.param(_image(fsLayers=[]), id="image with fsLayers"),
    pytest.param(_image(FSLAYERS=[]), id="image with FSLAYERS"),
    pytest.param(_index(config=CONFIG), id="index with config"),
    pytest.param(_index(layers=[LAYER]), id="index with layers"),
    pytest.param(_index(LaYeRs=[]), id="index with LaYeRs"),
    pytest.param(_index(fsLayers=[]), id="index with fsLayers"),
    pytest.param(_image(signatures=[]), id="image with signatures"),
    pytest.param(_image(media_types.OCI_INDEX), id="image that says it is an index"),
    pytest.param(_index(media_types.OCI_MANIFEST), id="index that says it is an image"),
]
_MALFORMED = [
    *(pytest.param(_image(schemaVersion=v), id=f"image {v!r}") for v in (1, 3, "2", None, [2])),
    *(pytest.param(_index(schemaVersion=v), id=f"index {v!r}") for v in (1, 3, "2", None, [2])),
    pytest.param(_without(_image(), "schemaVersion"), id="no version"),
    pytest.param(_without(_image(), "config"), id="no config"),
    pytest.param(_image(Subject=CONFIG), id="Subject"),
    pytest.param(_image(ANNOTATIONS={}), id="ANNOTATIONS"),
    pytest.param(_index(artifacttype="application/x"), id="artifacttype"),
    pytest.param(_image(config=[CONFIG]), id="config is a list"),
    pytest.param(_image(layers=LAYER), id="layers is an object"),
    pytest.param(_image(layers=[LAYER, None]), id="a layer is null"),
    pytest.param(_image(layers=[LAYER | {"size": 1.0}]), id="float size"),
    pytest.param(_image(layers=[LAYER | {"size": True}]), id="bool size"),
    pytest.param(_image(layers=[LAYER | {"size": 2**63}]), id="size too big"),
    pytest.param(_image(layers=[LAYER | {"digest": "x"}]), id="bad digest"),
    pytest.param(_image(subject="x"), id="bad subject"),
    pytest.param(_image(subject={}), id="empty subject"),
    pytest.param(_image(artifactType=7), id="artifactType is a number"),
    pytest.param(_image(artifactType="x/\0"), id="artifactType with NUL"),
    pytest.param(_image(config=CONFIG | {"mediaType": "x/\0"}), id="config of a type with NUL"),
    pytest.param(_image(annotations=["x"]), id="annotations are a list"),
    pytest.param(_image(annotations={"x": 7}), id="an annotation is a number"),
    pytest.param(_index(manifests=CHILD), id="manifests is an object"),
    pytest.param(_index(manifests=[CHILD | {"platform": "linux"}]), id="bad platform"),
]


@pytest.mark.parametrize("document", [*_CONFUSED, *_MALFORMED])
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
def test_what_can_be_read_two_ways_or_none_is_refused(document: dict[str, Any], *, declared: bool) -> None:
    """A document is exactly the one shape its type promises, in any spelling that Go would take."""
    media_type = document["mediaType"] if declared else ""
    with pytest.raises(ManifestInvalid) as caught:
        parse(media_type, _bytes(document))
    assert caught.value.reason


@pytest.mark.parametrize(
    ("content_type", "stated"),
    [
        (media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST),
        (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST),
        (media_types.OCI_INDEX, media_types.OCI_MANIFEST),
        ("application/x", "application/y"),
        (media_types.OCI_MANIFEST, 7),
        (media_types.OCI_MANIFEST, []),
    ],
)
def test_another_type_than_declared_is_refused(content_type: str, stated: object) -> None:
    """Content-Type and the document's own mediaType must agree."""
    with pytest.raises(ManifestInvalid) as caught:
        parse(content_type, _bytes(_image() | {"mediaType": stated}))
    assert caught.value.reason == f"mediaType in the document is {stated}, but Content-Type is {content_type}"


@pytest.mark.parametrize(
    ("layer_type", "required"),
    [
        (media_types.OCI_LAYER_GZIP, True),
        (media_types.DOCKER_LAYER, True),
        ("", True),
        (media_types.DOCKER_LAYER_FOREIGN, False),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", False),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", False),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", False),
    ],
)
def test_foreign_layers_need_not_be_here(layer_type: str, *, required: bool) -> None:
    """All children are required but layers that stay with their vendor."""
    entry = descriptor(layer_type, b"layer")
    manifest = parse("", _bytes(_image(layers=[entry])))
    assert [child.role for child in manifest.required] == [Role.CONFIG] + [Role.LAYER] * required


def test_the_builders_make_manifests() -> None:
    """What the other tests push is read as what it is."""
    made = image(layer({"a": b"1"}), layer({"b": b"2"}), oci=True)
    manifest = parse(made.media_type, made.manifest)
    assert {child.descriptor.digest for child in manifest.children} == set(made.blobs)
    both = parse(media_types.OCI_INDEX, index(made, image(layer({}), oci=True)))
    assert both.described(Role.MANIFEST)[0].digest == made.digest


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", ""),
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("  text/plain ;x", "text/plain"),
        (";", ""),
    ],
)
def test_parameters_are_stripped(content_type: str, expected: str) -> None:
    """A content type is compared without case and parameters."""
    assert media_types.strip_parameters(content_type) == expected


@pytest.mark.parametrize(
    ("recorded", "members", "described"),
    [
        (media_types.OCI_INDEX, {"mediaType": media_types.OCI_INDEX}, True),
        ("application/json", {"mediaType": media_types.OCI_INDEX}, True),
        (media_types.OCI_INDEX, {}, True),
        (media_types.DOCKER_LIST, {}, False),
        (media_types.DOCKER_LIST, {"mediaType": ""}, False),
    ],
)
def test_whether_a_stored_manifest_says_its_media_type(
    recorded: str,
    members: dict[str, str],
    described: bool,  # noqa: FBT001 -- a table's column
) -> None:
    """It does if it declares one, whatever was recorded, or if its form implies the one that was recorded."""
    payload = json.dumps({"schemaVersion": 2, "manifests": []} | members).encode()
    assert stored(recorded, payload, Digest.of(payload)).self_described is described

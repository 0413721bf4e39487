"""Manifests that are in use though no specification allows them: what programs wrote, and registries took."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from dualreg.image import media_types
from tests import builders


class Document(NamedTuple):
    """A manifest of IMAGE's content, or an index of IMAGE.

    Attributes:
        sizes: Whether every size in it is right: only then it is taken with ``strict_manifests``.
    """

    media_type: str
    payload: bytes
    sizes: bool = True


IMAGE = builders.image(builders.layer({"in": b"use"}), oci=True)
_IMAGE: dict[str, Any] = json.loads(IMAGE.manifest)
_INDEX: dict[str, Any] = json.loads(builders.index(IMAGE))
_CONFIG, (_LAYER,), (_ENTRY,) = _IMAGE["config"], _IMAGE["layers"], _INDEX["manifests"]
_ABSENT = {"mediaType": media_types.OCI_MANIFEST, "digest": f"sha256:{'0' * 64}"}


def _image(*, sizes: bool = True, **members: Any) -> Document:
    return _document(media_types.OCI_MANIFEST, _IMAGE | members, sizes=sizes)


def _index(*, sizes: bool = True, **members: Any) -> Document:
    return _document(media_types.OCI_INDEX, _INDEX | members, sizes=sizes)


def _document(media_type: str, document: Mapping[str, Any], *, sizes: bool) -> Document:
    """Return the document; a member that is ``...`` is left out."""
    kept = {name: value for name, value in document.items() if value is not ...}
    return Document(media_type, json.dumps(kept).encode(), sizes)


def _without(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != name}


def _artifact(media_type: str, **members: Any) -> Document:
    document = {"mediaType": media_type, "artifactType": "application/x.test", "blobs": [_LAYER], **members}
    return _document(media_type, document, sizes=True)


#: What notation and oras wrote before OCI 1.1.
ARTIFACTS: Mapping[str, Document] = {
    name: _artifact(
        media_type, subject=builders.descriptor(IMAGE.media_type, IMAGE.manifest), annotations={"a": "b"}
    )
    for name, media_type in (("OCI", media_types.OCI_ARTIFACT), ("ORAS", media_types.ORAS_ARTIFACT))
}
IN_USE: Mapping[str, Document] = {
    "layers null": _image(layers=None),
    "layers absent": _image(layers=...),
    "manifests null": _index(manifests=None),
    "manifests absent": _index(manifests=...),
    "annotations null": _image(annotations=None),
    "an annotation null": _image(annotations={"org.example.note": None, "a": "b"}),
    "an annotation of an index null": _index(annotations={"org.example.note": None}),
    "no mediaType": _image(mediaType=...),
    "mediaType empty": _image(mediaType=""),
    "mediaType null": _index(mediaType=None),
    "mediaType of a layer null": _image(layers=[_LAYER | {"mediaType": None}]),
    "platform null": _index(manifests=[_ENTRY | {"platform": None}]),
    "subject null": _image(subject=None),
    "subject without size": _image(subject=_ABSENT, artifactType="application/x.test"),
    "config without size": _image(config=_without(_CONFIG, "size"), sizes=False),
    "layer size null": _image(layers=[_LAYER | {"size": None}], sizes=False),
    "layer size zero": _image(layers=[_LAYER | {"size": 0}], sizes=False),
    "layer size negative": _image(layers=[_LAYER | {"size": -1}], sizes=False),
    "layer size too small": _image(layers=[_LAYER | {"size": _LAYER["size"] - 1}], sizes=False),
    "config size huge": _image(config=_CONFIG | {"size": 2**62}, sizes=False),
    "entry size off by ten": _index(manifests=[_ENTRY | {"size": _ENTRY["size"] - 10}], sizes=False),
    **{f"an artifact of {name}": document for name, document in ARTIFACTS.items()},
    "an artifact without blobs": _artifact(media_types.OCI_ARTIFACT, blobs=None),
    "a layer as entry": _index(manifests=[_LAYER]),
    "a blob as entry, as if it were a manifest": _index(
        manifests=[_LAYER | {"mediaType": media_types.OCI_MANIFEST}]
    ),
    "a build cache": _index(
        manifests=[_LAYER, _CONFIG | {"mediaType": "application/vnd.buildkit.cacheconfig.v0"}]
    ),
    "entry without size": _index(manifests=[_without(_ENTRY, "size")], sizes=False),
}

"""Layers of artifacts with their annotations, which hold what is signed, or say what it is."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from dualreg.errors import ManifestInvalid
from dualreg.image.descriptor import Descriptor
from dualreg.image.documents import parse_object

#: Layers of one manifest that are looked at.
_LAYERS_LIMIT = 100
#: Where manifests list blobs.
_LISTS = ("layers", "blobs")


class Annotated(NamedTuple):
    """A descriptor with its annotations."""

    descriptor: Descriptor
    annotations: Mapping[str, str]


def annotated_layers(manifest: bytes) -> list[Annotated]:
    """Return the first layers of a manifest, or blobs of an artifact manifest; none if it has none."""
    return [*_annotated(_document(manifest), *_LISTS)][:_LAYERS_LIMIT]


def annotated_entries(index: bytes) -> list[Annotated]:
    """Return all entries of an index."""
    return [*_annotated(_document(index), "manifests")]


def _document(payload: bytes) -> Mapping[str, Any]:
    try:
        return parse_object(payload)
    except ValueError:
        return {}


def _annotated(document: Mapping[str, Any], *names: str) -> Iterator[Annotated]:
    listed = (document.get(name) for name in names)
    for entry in (entry for each in listed if isinstance(each, list) for entry in each):
        with suppress(ManifestInvalid):
            given = entry.get("annotations") if isinstance(entry, dict) else None
            texts = given.items() if isinstance(given, dict) else ()
            annotations = {name: text for name, text in texts if isinstance(text, str)}
            yield Annotated(Descriptor.from_json(entry), annotations)

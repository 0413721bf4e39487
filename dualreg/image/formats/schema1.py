"""Docker schema 1, for Docker 1.6 to 1.9: V1 image JSON and layers in one signed document."""

from typing import Any

from dualreg.errors import DigestInvalid, ManifestInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats.contents import Child, Contents, Role, member, refuse


def contents(document: dict[str, Any]) -> Contents:
    """Return the contents of the payload of a schema 1 manifest, which has no signatures.

    The descriptors of the layers have no sizes. The parents in the V1 JSON are not checked: Docker 1.8 and
    1.9 write wrong ones.

    Raises:
        ManifestInvalid: the schema version is not 1, layers are missing or invalid, there is not one V1 JSON
            for each layer, or the document could be read as another format.

    Source: distribution 2.8, ``manifest/schema1``.
    """
    refuse(document, "config", "layers", "manifests")
    layers, history = member(document, "fsLayers"), member(document, "history")
    if document.get("schemaVersion") != 1:
        raise ManifestInvalid(reason="schemaVersion is not 1")
    if (
        not isinstance(layers, list)
        or not isinstance(history, list)
        or not layers
        or len(layers) != len(history)
    ):
        raise ManifestInvalid(reason="fsLayers and history are not lists of the same length")
    for entry in history:
        _check_history(entry)
    children = tuple(Child(Role.LAYER, _layer(entry)) for entry in reversed(layers))
    return Contents(children=children, named=(_text(document, "name"), _text(document, "tag")))


def _layer(entry: object) -> Descriptor:
    digest = entry.get("blobSum") if isinstance(entry, dict) else None
    if not isinstance(digest, str):
        raise ManifestInvalid(reason="layer has no blobSum")
    try:
        return Descriptor(media_types.DOCKER_LAYER_GZIP, Digest.parse(digest), None)
    except DigestInvalid as error:
        raise ManifestInvalid(
            reason="layer has an invalid blobSum", digest=error.digest, algorithm=error.algorithm
        ) from error


def _check_history(entry: object) -> None:
    text = entry.get("v1Compatibility") if isinstance(entry, dict) else None
    try:
        parse_object(text.encode() if isinstance(text, str) else b"")
    except ValueError as error:
        raise ManifestInvalid(reason=f"v1Compatibility: {error}"[:200]) from error


def _text(document: dict[str, Any], key: str) -> str:
    text = document.get(key, "")
    if not isinstance(text, str):
        raise ManifestInvalid(reason=f"{key} is not a string")
    return text

"""Docker schema 1: V1 image JSONs and their layers under one signature, for Docker 1.6 to 1.9."""

from typing import Any

from dualreg.errors import DigestInvalid, ManifestInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats.contents import Child, Contents, Role, refuse


def contents(document: dict[str, Any]) -> Contents:
    """Read the payload of a schema 1 manifest, its signatures taken off.

    The layers' sizes are not told.

    Raises:
        ManifestInvalid: not schema version 1, no layers, not one V1 JSON for each layer, or also shaped like
            another format.

    Source: distribution 2.8, ``manifest/schema1``. Parents are not compared: Docker 1.8 and 1.9 wrote wrong
    ones.
    """
    refuse(document, "config", "layers", "manifests")
    layers, history = document.get("fsLayers"), document.get("history")
    if document.get("schemaVersion") != 1:
        raise ManifestInvalid(reason="schemaVersion is not 1")
    if (
        not isinstance(layers, list)
        or not isinstance(history, list)
        or not layers
        or len(layers) != len(history)
    ):
        raise ManifestInvalid(reason="fsLayers and history are not lists of one length")
    for entry in history:
        _check_history(entry)
    children = tuple(Child(Role.LAYER, _layer(entry)) for entry in reversed(layers))
    return Contents(children=children, place=(_text(document, "name"), _text(document, "tag")))


def _layer(entry: object) -> Descriptor:
    digest = entry.get("blobSum") if isinstance(entry, dict) else None
    if not isinstance(digest, str):
        raise ManifestInvalid(reason="a layer without blobSum")
    try:
        return Descriptor(media_types.DOCKER_LAYER_GZIP, Digest.parse(digest), None)
    except DigestInvalid as error:
        raise ManifestInvalid(
            reason="a blobSum is no digest", digest=error.digest, algorithm=error.algorithm
        ) from error


def _check_history(entry: object) -> None:
    text = entry.get("v1Compatibility") if isinstance(entry, dict) else None
    try:
        parse_object(text.encode() if isinstance(text, str) else b"")
    except ValueError as error:
        raise ManifestInvalid(reason="a v1Compatibility is no JSON object") from error


def _text(document: dict[str, Any], key: str) -> str:
    text = document.get(key, "")
    if not isinstance(text, str):
        raise ManifestInvalid(reason=f"{key} is not text")
    return text

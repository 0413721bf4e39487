"""Image manifests, OCI or Docker schema 2: a config and layers."""

from typing import Any

from dualreg.errors import ManifestInvalid
from dualreg.image.descriptor import Descriptor
from dualreg.image.formats.contents import Child, Contents, Role, descriptors, member, refuse, with_children


def contents(document: dict[str, Any]) -> Contents:
    """Return the contents of an image manifest.

    Raises:
        ManifestInvalid: the schema version is not 2, config is missing or invalid, layers are invalid, or the
            document could be read as another format.

    Source: OCI image-spec v1.1, manifest.md; Docker "Image Manifest Version 2, Schema 2".
    """
    refuse(document, "manifests", "fslayers")
    if document.get("schemaVersion") != 2:  # noqa: PLR2004 -- the number is the format's name
        raise ManifestInvalid(reason="schemaVersion is not 2")
    config = Descriptor.from_json(member(document, "config"))
    layers = (Child(Role.LAYER, layer) for layer in descriptors(document, "layers"))
    children = (Child(Role.CONFIG, config), *layers)
    return with_children(document, children, artifact_type=config.media_type)

"""Indexes, OCI or Docker (manifest list): a list of manifests."""

from typing import Any

from dualreg.errors import ManifestInvalid
from dualreg.image.formats.contents import Child, Contents, Role, descriptors, refuse, with_children


def contents(document: dict[str, Any]) -> Contents:
    """Return the contents of an index.

    Raises:
        ManifestInvalid: the schema version is not 2, the list of manifests is invalid, or the document could
            be read as another format.

    Source: OCI image-spec v1.1, image-index.md; Docker "Image Manifest Version 2, Schema 2", "Manifest List".
    """
    refuse(document, "config", "layers", "fslayers")
    if document.get("schemaVersion") != 2:  # noqa: PLR2004 -- the number is the format's name
        raise ManifestInvalid(reason="schemaVersion is not 2")
    manifests = descriptors(document, "manifests")
    return with_children(document, (Child(Role.MANIFEST, manifest) for manifest in manifests))

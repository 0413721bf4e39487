"""Artifact manifests, of the time before OCI 1.1: a list of blobs, and a subject."""

from typing import Any

from dualreg.image.formats.contents import Child, Contents, Role, descriptors, refuse, with_children


def contents(document: dict[str, Any]) -> Contents:
    """Return the contents of an artifact manifest, OCI's or that of ORAS; it has no schema version.

    Raises:
        ManifestInvalid: a member is invalid, or the document could be read as another format.

    Source: OCI image-spec v1.1.0-rc2, artifact.md; ORAS artifacts-spec 1.0.0-rc.2, artifact-manifest.md.
    """
    refuse(document, "config", "layers", "manifests", "fslayers")
    return with_children(document, (Child(Role.LAYER, blob) for blob in descriptors(document, "blobs")))

"""Annotations in the index of an OCI layout, as they are read and written.

Source: OCI image-spec v1.1, annotations.md.
"""

from collections.abc import Mapping
from typing import Any

#: The name of an image: its tag alone, or repository and tag.
NAME = "org.opencontainers.image.ref.name"
#: The repository that an image was exported from.
REPOSITORY = "dualreg.repository"


def annotations_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the annotations of an entry; none if they are missing or invalid."""
    stated = entry.get("annotations")
    return stated if isinstance(stated, dict) else {}

"""What entries of an OCI layout's index say, which is read and written by the same words.

Source: OCI image-spec v1.1, annotations.md.
"""

from collections.abc import Mapping
from typing import Any

#: How an image is called: by its tag alone, or with its repository.
NAME = "org.opencontainers.image.ref.name"
#: The repository that an entry left from, which a tag alone does not say.
REPOSITORY = "dualreg.repository"


def annotations_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an entry's annotations, however it lacks them."""
    stated = entry.get("annotations")
    return stated if isinstance(stated, dict) else {}

"""The formats of manifests, one module each.

To add a format, add a module with ``contents(document)`` and a line to FORMATS.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from dualreg.image import media_types
from dualreg.image.formats import artifact, image, index, schema1
from dualreg.image.formats.contents import Child, Contents, Role

__all__ = ["FORMATS", "Child", "Contents", "Role"]

#: Media type → parser. A JSON document of any other type is stored as it is, and has no children.
FORMATS: Mapping[str, Callable[[dict[str, Any]], Contents]] = MappingProxyType(
    {
        media_types.DOCKER_MANIFEST: image.contents,
        media_types.OCI_MANIFEST: image.contents,
        media_types.DOCKER_LIST: index.contents,
        media_types.OCI_INDEX: index.contents,
        media_types.OCI_ARTIFACT: artifact.contents,
        media_types.ORAS_ARTIFACT: artifact.contents,
        media_types.SCHEMA1_SIGNED: schema1.contents,
    }
)

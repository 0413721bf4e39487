"""Descriptor: how one document names another piece of content."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dualreg.errors import DigestInvalid, ManifestInvalid
from dualreg.image.digest import Digest

_SIZE_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content.

    Attributes:
        size: Bytes; None if the document does not say (schema 1).
        platform: The index entry's ``platform`` object, or empty.
    """

    media_type: str
    digest: Digest
    size: int | None
    platform: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a descriptor object.

        Raises:
            ManifestInvalid: not an object, or its media type, digest, size, platform or data is not what it
                must be.

        Source: OCI image-spec v1.1, descriptor.md, "Properties".
        """
        if not isinstance(value, dict):
            raise ManifestInvalid(reason="a descriptor is not an object")
        media_type, digest, size = value.get("mediaType", ""), value.get("digest"), value.get("size")
        platform = value.get("platform") or {}
        if not isinstance(media_type, str) or not isinstance(digest, str) or not isinstance(platform, dict):
            raise ManifestInvalid(reason="a descriptor lacks a mediaType or digest")
        if "\0" in media_type:
            raise ManifestInvalid(reason="a descriptor's mediaType is no text that can be kept")
        if type(size) is not int or not 0 <= size < _SIZE_LIMIT:
            raise ManifestInvalid(reason="a descriptor's size is not a number of bytes", digest=digest[:200])
        try:
            descriptor = cls(media_type, Digest.parse(digest), size, platform)
        except DigestInvalid as error:
            raise ManifestInvalid(
                reason="a descriptor's digest is invalid", digest=error.digest, algorithm=error.algorithm
            ) from error
        _check_data(descriptor, value.get("data"))
        return descriptor

    def to_json(self) -> dict[str, Any]:
        """Return the object, keys in the order Docker writes them."""
        return {"mediaType": self.media_type, "size": self.size, "digest": str(self.digest)}


def _check_data(descriptor: Descriptor, data: object) -> None:
    """Refuse embedded content that is not what the descriptor describes: some clients use it unseen.

    Source: OCI image-spec v1.1, descriptor.md, "Embedded Content".
    """
    if data is None:
        return
    try:
        content = base64.b64decode(data, validate=True) if isinstance(data, str) else None
    except ValueError:
        content = None
    algorithm = descriptor.digest.algorithm
    if (
        content is None
        or len(content) != descriptor.size
        or Digest.of(content, algorithm) != descriptor.digest
    ):
        raise ManifestInvalid(reason="a descriptor's data is not its content", digest=str(descriptor.digest))

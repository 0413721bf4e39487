"""Descriptor: how a document refers to content by media type, digest and size."""

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
        size: In bytes, as the document states it; None if it does not (schema 1, and what early tools wrote).
        platform: The ``platform`` object of an index entry; empty if there is none.
    """

    media_type: str
    digest: Digest
    size: int | None
    platform: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return the descriptor that the JSON value *value* spells.

        Members that are null count as absent, and a negative size as none: programs in Go write both. Whether
        the size is right shows only beside the content.

        Raises:
            ManifestInvalid: *value* is not an object, or its media type, digest, size, platform or data is
                invalid.

        Source: OCI image-spec v1.1, descriptor.md, "Properties"; docs/adr/0025.
        """
        if not isinstance(value, dict):
            raise ManifestInvalid(reason="descriptor is not an object")
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        media_type = "" if media_type is None else media_type
        platform = value.get("platform") or {}
        if not isinstance(media_type, str) or not isinstance(digest, str) or not isinstance(platform, dict):
            raise ManifestInvalid(reason="descriptor has no mediaType or digest")
        if "\0" in media_type:
            raise ManifestInvalid(reason="descriptor has a NUL in its mediaType")
        if size is not None and (type(size) is not int or abs(size) >= _SIZE_LIMIT):
            raise ManifestInvalid(reason="descriptor has an invalid size", digest=digest[:200])
        size = None if size is None or size < 0 else size
        try:
            descriptor = cls(media_type, Digest.parse(digest), size, platform)
        except DigestInvalid as error:
            raise ManifestInvalid(
                reason="descriptor has an invalid digest", digest=error.digest, algorithm=error.algorithm
            ) from error
        _check_data(descriptor, value.get("data"))
        return descriptor

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, with keys in Docker's order."""
        return {"mediaType": self.media_type, "size": self.size, "digest": str(self.digest)}


def _check_data(descriptor: Descriptor, data: object) -> None:
    """Refuse embedded content that does not match the descriptor: some clients use it without verification.

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
        or descriptor.size not in (None, len(content))
        or Digest.of(content, algorithm) != descriptor.digest
    ):
        raise ManifestInvalid(
            reason="descriptor's data does not match its digest and size", digest=str(descriptor.digest)
        )

"""Names and their grammars: repositories, tags, V1 image ids, uploads.

Each is a ``str`` that can only be made by ``parse``, so a function that takes a ``Tag`` cannot be handed a
mere string. Patterns are ASCII and used with ``fullmatch``: ``$`` would let a trailing newline pass.
"""

import re
import uuid
from typing import Self

from dualreg.errors import ImageIdInvalid, NameInvalid, TagInvalid, UploadUnknown
from dualreg.image.digest import Digest

#: Where V1 has repositories whose names have no slash.
LIBRARY = "library/"
#: Characters in a repository name; many clients limit host and name together to the same number.
NAME_LIMIT = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}", re.ASCII)
_UPLOAD_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class RepositoryName(str):
    """A repository's name: path components of lower-case letters and digits, joined by ``/``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check *text* against the grammar.

        Raises:
            NameInvalid: outside the grammar, or over 255 characters.

        Source: OCI distribution-spec v1.1, "Pulling manifests", ``<name>``.
        """
        if len(text) > NAME_LIMIT or _NAME.fullmatch(text) is None:
            raise NameInvalid(name=text[:NAME_LIMIT])
        return cls(text)


class Tag(str):
    """A tag's name within its repository."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check *text* against the grammar.

        Raises:
            TagInvalid: outside the grammar.

        Source: OCI distribution-spec v1.1, "Pulling manifests", ``<reference>``.
        """
        if _TAG.fullmatch(text) is None:
            raise TagInvalid(tag=text[:NAME_LIMIT])
        return cls(text)


class ImageId(str):
    """A V1 image id: 64 hex digits, or the 16 of the very first images."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check *text* against the grammar.

        Raises:
            ImageIdInvalid: outside the grammar.
        """
        if _IMAGE_ID.fullmatch(text) is None:
            raise ImageIdInvalid(id=text[:NAME_LIMIT])
        return cls(text)


class UploadId(str):
    """An upload's id: a random UUID, safe as a file name."""

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """Return an id that nobody has used."""
        return cls(uuid.uuid4())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check *text* against the form of ids made by ``new``.

        Raises:
            UploadUnknown: any other text cannot be an upload's id.
        """
        if _UPLOAD_ID.fullmatch(text) is None:
            raise UploadUnknown(upload=text[:NAME_LIMIT])
        return cls(text)


def in_library(name: str) -> str:
    """Return a repository's whole name in V1, where one without a slash is short for one in ``library/``."""
    return name if "/" in name else LIBRARY + name


def parse_reference(text: str) -> Tag | Digest:
    """Return the digest or tag that a manifest URL ends with; a colon makes it a digest.

    Raises:
        DigestInvalid, TagInvalid.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)

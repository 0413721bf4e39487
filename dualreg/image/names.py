"""Names and their grammars: repositories, tags, V1 image ids, uploads.

Each is a ``str`` that ``parse`` checks, so a function that takes a ``Tag`` need not check it again. Regular
expressions are ASCII and used with ``fullmatch``, because ``$`` accepts a trailing newline.
"""

import os
import re
from typing import Self

from dualreg.errors import ImageIdInvalid, NameInvalid, TagInvalid, UploadUnknown
from dualreg.image.digest import Digest

#: The namespace of V1 repositories whose names have no slash.
LIBRARY = "library/"
#: Maximum length of a repository name, in characters; many clients limit host and name together to it.
NAME_LIMIT = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}", re.ASCII)
_UPLOAD_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class RepositoryName(str):
    """The name of a repository: components of lower-case letters, digits and separators, joined by ``/``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return *text* as a repository name.

        Raises:
            NameInvalid: *text* is outside the grammar, or longer than 255 characters.

        Source: OCI distribution-spec v1.1, "Pulling manifests", ``<name>``.
        """
        if len(text) > NAME_LIMIT or _NAME.fullmatch(text) is None:
            raise NameInvalid(name=text[:NAME_LIMIT])
        return cls(text)


class Tag(str):
    """The name of a tag."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return *text* as a tag.

        Raises:
            TagInvalid: *text* is outside the grammar.

        Source: OCI distribution-spec v1.1, "Pulling manifests", ``<reference>``.
        """
        if _TAG.fullmatch(text) is None:
            raise TagInvalid(tag=text[:NAME_LIMIT])
        return cls(text)


class ImageId(str):
    """A V1 image id: 64 hex digits, or 16 in the oldest images."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return *text* as a V1 image id.

        Raises:
            ImageIdInvalid: *text* is outside the grammar.
        """
        if _IMAGE_ID.fullmatch(text) is None:
            raise ImageIdInvalid(id=text[:NAME_LIMIT])
        return cls(text)


class UploadId(str):
    """The id of an upload: a random UUID, safe as a file name."""

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """Return a new id."""
        random = os.urandom(16).hex()
        variant = "89ab"[int(random[16], 16) & 3]
        return cls(f"{random[:8]}-{random[8:12]}-4{random[13:16]}-{variant}{random[17:20]}-{random[20:]}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return *text* as an upload id.

        Raises:
            UploadUnknown: *text* does not have the form of an id, so there is no such upload.
        """
        if _UPLOAD_ID.fullmatch(text) is None:
            raise UploadUnknown(upload=text[:NAME_LIMIT])
        return cls(text)


def in_library(name: str) -> str:
    """Return the full V1 name of a repository: ``library/NAME`` for a NAME without a slash."""
    return name if "/" in name else LIBRARY + name


def parse_reference(text: str) -> Tag | Digest:
    """Return the digest or tag that *text*, the last part of a manifest URL, spells.

    Raises:
        DigestInvalid: *text* has a colon, but is not a digest.
        TagInvalid: *text* has no colon, and is not a tag.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)

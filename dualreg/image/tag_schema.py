"""Tags that are named after a digest, because their image is about the image with that digest.

cosign stores signatures under such tags, and clients store lists of referrers in registries without that API.

Source: cosign, ``pkg/oci/remote`` (SignatureTag); OCI distribution-spec v1.1, "Referrers Tag Schema".
"""

import re

from dualreg.image.digest import Digest

#: How many digits of a digest such a tag contains.
_HEX = 64
_PREFIX = re.compile(rf"sha(256|512)-[0-9a-f]{{{_HEX}}}", re.ASCII)


def subject_prefix(tag: str) -> str | None:
    """Return the ``tag_prefix`` of the digest that a tag is named after; None if it is not named so."""
    prefix = tag.partition(".")[0]
    return prefix if _PREFIX.fullmatch(prefix) else None


def subject_range(tag: str) -> tuple[str, str] | None:
    """Return between which texts the digest is that a tag is named after: from the first, before the second.

    None if the tag is not named so. That of an SHA-512 is not known as a whole.
    """
    prefix = subject_prefix(tag)
    if prefix is None:
        return None
    first = prefix.replace("-", ":", 1)
    return first, f"{first}g"  # the letter after the last digit


def tag_prefix(digest: Digest) -> str:
    """Return what the tags of images that are about *digest* start with."""
    return f"{digest.algorithm}-{digest.hex[:_HEX]}"

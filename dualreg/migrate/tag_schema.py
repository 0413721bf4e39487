"""Tag schema: tags that are called like a digest, as what is under them is about that.

So are the signatures of cosign, and the lists of referrers of registries that know no others.

Source: cosign, ``pkg/oci/remote`` (SignatureTag); OCI distribution-spec v1.1, "Referrers Tag Schema".
"""

import re

from dualreg.image.digest import Digest

#: How many digits of a digest are in such a tag.
_HEX = 64
_HEAD = re.compile(rf"sha(256|512)-[0-9a-f]{{{_HEX}}}", re.ASCII)


def subject_head(tag: str) -> str | None:
    """Return how tags begin that are about the same as *tag* is; None if it is about nothing."""
    head = tag.partition(".")[0]
    return head if _HEAD.fullmatch(head) else None


def head(digest: Digest) -> str:
    """Return how tags begin that are about what has that digest."""
    return f"{digest.algorithm}-{digest.hex[:_HEX]}"

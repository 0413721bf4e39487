"""What a rebuild has recorded, and what it has found damaged."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

#: What ``Rebuilt.counts`` counts.
COUNTED = ("repositories", "tags", "manifests", "v1_images", "links", "blobs")


class Damage(StrEnum):
    """What can be wrong with a tree."""

    #: The copy of accounts, permissions and keys cannot be read; they are lost.
    ACCESS = "damaged-access"
    #: A file or folder that is not understood.
    ODD = "odd-entry"
    #: A link to a blob that the store does not have.
    NO_BLOB = "missing-blob"
    #: A blob or manifest that the repository has in use, but no link names; it is linked again.
    NO_LINK = "missing-link"
    #: A manifest whose bytes are missing.
    NO_MANIFEST = "missing-manifest"
    #: A manifest whose bytes are not those of its digest, or no manifest.
    CORRUPT = "corrupt-manifest"
    #: A tag whose manifest is not in the repository.
    DANGLING = "dangling-tag"
    #: A V1 image whose JSON or layer is missing, or whose parent is.
    NO_IMAGE = "broken-image"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that could not be recorded as it should be.

    Attributes:
        where: The repository, with the tag, digest or image ID; or the path of a file.
    """

    kind: Damage
    where: str
    text: str


@dataclass
class Rebuilt:
    """What a rebuild has recorded; of one that was resumed, since then.

    Attributes:
        complete: Whether all repositories were recorded.
        counts: The number of each of COUNTED.
    """

    complete: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

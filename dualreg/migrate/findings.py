"""Findings: what an operator should know about a source before and after a run."""

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """The kinds of findings."""

    PARTIAL = "partial"
    STALE_MARK = "stale-mark"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"
    NO_JSON = "no-json"
    NO_LAYER = "no-layer"
    MISSING_PARENT = "missing-parent"
    CYCLE = "cycle"
    WRONG_ID = "wrong-id"
    WRONG_ANCESTRY = "wrong-ancestry"
    UNVERIFIED = "unverified"
    UNSURE = "unsure"
    DANGLING = "dangling-tag"
    PHANTOM = "phantom-tag"
    BAD_NAME = "bad-name"
    BAD_TAG = "bad-tag"
    COLLISION = "collision"
    PRIVATE = "private"
    EMPTY = "empty-repository"
    OWNED = "owned"
    ORPHAN = "orphan"
    FOREIGN = "foreign-file"
    MISSING_BLOB = "missing-blob"
    MISSING_MANIFEST = "missing-manifest"
    UNTAGGED = "untagged"
    TARSUM = "tarsum"
    NO_PLACE = "no-place"
    NO_PLATFORM = "no-platform"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNDATED = "undated"
    WRONG_SIZE = "wrong-size"
    BAD_GZIP = "bad-gzip"
    LOST_V1 = "lost-v1-image"


#: Kinds that do not keep any tag from being imported.
HARMLESS = frozenset(
    {
        FindingKind.STALE_MARK,
        FindingKind.WRONG_ANCESTRY,
        FindingKind.UNVERIFIED,
        FindingKind.UNSURE,
        FindingKind.PRIVATE,
        FindingKind.PHANTOM,
        FindingKind.EMPTY,
        FindingKind.ORPHAN,
        FindingKind.FOREIGN,
        FindingKind.UNTAGGED,
        FindingKind.WRONG_SIZE,
        FindingKind.BAD_GZIP,
        FindingKind.LOST_V1,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something noteworthy about one image, tag, repository or file.

    Attributes:
        where: The name of it in the source.
        size: How many bytes are concerned.
    """

    kind: FindingKind
    where: str
    text: str
    size: int = 0

    def __str__(self) -> str:
        """Return the finding in one line."""
        return f"{self.kind}: {self.where}: {self.text}"


class Broken(Exception):
    """An image cannot be imported, and neither can the images and tags that need it.

    Attributes:
        finding: Which image, and what is wrong with it.
    """

    def __init__(self, kind: FindingKind, where: str, text: str) -> None:
        super().__init__(f"{kind}: {where}: {text}")
        self.finding = Finding(kind, where, text)

"""Findings: everything about a source that an operator wants to know before, and after."""

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """What can be found, by the state that was seen in the field."""

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
    ORPHAN = "orphan"
    FOREIGN = "foreign-file"
    MISSING_BLOB = "missing-blob"
    MISSING_MANIFEST = "missing-manifest"
    UNTAGGED = "untagged"
    TARSUM = "tarsum"
    NO_PLACE = "no-place"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNDATED = "undated"


#: What says something, but keeps no tag from being taken in.
HARMLESS = frozenset(
    {
        FindingKind.STALE_MARK,
        FindingKind.WRONG_ANCESTRY,
        FindingKind.UNVERIFIED,
        FindingKind.UNSURE,
        FindingKind.PRIVATE,
        FindingKind.EMPTY,
        FindingKind.ORPHAN,
        FindingKind.FOREIGN,
        FindingKind.UNTAGGED,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one image, tag, repository or file.

    Attributes:
        where: Its name in the source.
        size: Bytes that it is about.
    """

    kind: FindingKind
    where: str
    text: str
    size: int = 0

    def __str__(self) -> str:
        """Return a line for people."""
        return f"{self.kind}: {self.where}: {self.text}"


class Broken(Exception):
    """An image that cannot be taken in, and with it every tag that stands on it.

    Attributes:
        finding: What is wrong with which image.
    """

    def __init__(self, kind: FindingKind, where: str, text: str) -> None:
        """Say it."""
        super().__init__(f"{kind}: {where}: {text}")
        self.finding = Finding(kind, where, text)

"""Mending: what to do about tags that a run did not import, by the reason.

Source: docs/migrate.md, "Findings" and "Messages", which say the same.
"""

from dualreg.migrate.findings import FindingKind

_RESTORE = (
    "restore it in the source from a backup, or push the image to the old registry again; "
    "otherwise leave it out"
)
_BY_KIND = {
    FindingKind.BAD_NAME: "map it with --map; the message proposes a name",
    FindingKind.BAD_TAG: "map it with --map; the message proposes a name",
    FindingKind.COLLISION: "map one of the tags with --map",
    FindingKind.CYCLE: "it cannot be imported; leave it out",
    FindingKind.NO_PLACE: "the message says why",
    FindingKind.NO_PLATFORM: "add one of its platforms to the rule, or exclude it by name",
    FindingKind.OWNED: "map it to another name, or delete what was pulled from the upstream",
    FindingKind.PARTIAL: "push it to the old registry again, or leave it out",
    FindingKind.REFUSED: "check --user, or exclude it by name",
    FindingKind.STALE_MARK: "run without --strict, or push it to the old registry again",
    FindingKind.TARSUM: "push the image to the old registry again, with a newer Docker",
    FindingKind.UNDATED: "select it by name",
    FindingKind.UNREACHABLE: "run again",
    FindingKind.UNREADABLE: "check permissions, links and disk, or exclude it by name",
    FindingKind.UNVERIFIED: "run without --strict",
    FindingKind.WRONG_SIZE: "switch strict_manifests off for the import",
}
#: Beginnings of other reasons, what they are called, and what to do.
_BY_START = (
    ("tag already exists", "existing", "decide with --existing"),
    ("deleted from this registry", "deleted", "push it to the old registry again, or leave it"),
    ("the tag was moved or deleted", "moved", "run again"),
    ("the tag is immutable", "immutable", "remove the rule, or leave the tag as it is"),
)
#: What all other reasons are called.
OTHER = "other"


def kind_of(reason: str) -> str:
    """Return what reasons like this one are called."""
    start = reason.partition(":")[0]
    if start in {*FindingKind}:
        return start
    return next((kind for beginning, kind, _ in _BY_START if reason.startswith(beginning)), OTHER)


def mending(kind: str) -> str:
    """Return what to do about tags with reasons of a kind."""
    if kind in {*FindingKind}:
        return _BY_KIND.get(FindingKind(kind), _RESTORE)
    return next((text for _, each, text in _BY_START if each == kind), "the message says what is wrong")

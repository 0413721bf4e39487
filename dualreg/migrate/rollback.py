"""Rollback: removing what runs added, and nothing else.

Tags that were moved after the run stay, and so does content of the run that others use.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import Origin
from dualreg.errors import (
    ManifestInUse,
    ManifestUnknown,
    PreconditionFailed,
    RepositoryUnknown,
    TagImmutable,
    TagUnknown,
)
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate import journal
from dualreg.migrate.base import current_manifest
from dualreg.migrate.transports import is_own_store
from dualreg.registry import Registry
from dualreg.registry.preconditions import Precondition

#: A blob of a repository; manifests are blobs, too.
_RepositoryBlob = tuple[RepositoryName, Digest]
#: An event of a journal.
_Line = Mapping[str, Any]
#: Lines of the journal that are undone between two calls of ``require``.
_STEP = 50


@dataclass
class RollbackResult:
    """How much was removed; *kept* lists what was not, and why. The fields are keys of ``--json``."""

    tags: int = 0
    manifests: int = 0
    images: int = 0
    blobs: int = 0
    kept: tuple[str, ...] = ()


def rollback(
    registry: Registry,
    folder: Path,
    *runs: str,
    dry_run: bool = False,
    require: Callable[[], None] = lambda: None,
) -> RollbackResult:
    """Remove what *runs* added; it can be repeated.

    Content that an earlier rollback kept because these runs used it is removed with them. Of imports in place
    only rows are removed: the files were there before.

    Args:
        folder: The folder of the journals.
        dry_run: Change nothing, but return what would be removed.
        require: Called before each step of a few lines; an exception ends the rollback, which can be
            repeated.

    Raises:
        ValueError: there is no such run, or its journal lacks the first line.
    """
    chosen, others = sorted(runs), [run for run in journal.runs(folder) if run not in runs]
    lines = [line for run in chosen for line in _lines(folder, run)]
    damage = [text for run in chosen for text in _damage(folder, run)]
    touched = {line["repository"] for line in lines if line["event"] == "pointing"}
    earlier = [
        line for run in others for line in _undone_lines(folder, run) if line.get("repository", "") in touched
    ]
    in_place = any(line.get("in_place") for line in (*earlier, *lines))
    in_place = in_place or any(_was_own_store(registry, folder, run) for run in chosen)
    with registry.trial() if dry_run else nullcontext(registry) as tried:
        registry = tried.without_links() if in_place else tried
        asked, delete_bytes = (lambda: None) if dry_run else require, not (in_place or dry_run)
        result = _undo(registry, lines, earlier, asked, delete_bytes=delete_bytes)
    if not dry_run:
        for run in chosen:
            if any(True for _ in journal.read(folder, run)):
                journal.append_event(folder, run, journal.UNDONE)
    result.kept = (*damage, *result.kept)
    return result


def _undo(
    registry: Registry,
    lines: Sequence[_Line],
    earlier: Sequence[_Line],
    require: Callable[[], None],
    *,
    delete_bytes: bool,
) -> RollbackResult:
    """Undo *lines*, the last one first; what *earlier* rollbacks kept of theirs is removed with them."""
    result, both = RollbackResult(), [*earlier, *lines]
    require()
    for undo, chosen in ((_restore_tag, lines), (_remove_tagged, both), (_remove_added, both)):
        for step in batches(reversed(chosen), _STEP):
            require()
            named = {blob for line in step for blob in undo(registry, line, result)}
            result.blobs += _release(registry, named, delete_bytes=delete_bytes)
    return result


def _lines(folder: Path, run: str) -> list[_Line]:
    """Return the lines of a run's journal.

    Raises:
        ValueError: there is no such run, or its journal lacks the first line.
    """
    lines = [*journal.read(folder, run)]
    if lines and lines[0]["event"] != "run":
        raise ValueError(f"cannot roll back {run}: its journal lacks the first line")
    return lines


def _damage(folder: Path, run: str) -> Iterator[str]:
    if numbers := journal.damaged_lines(folder, run):
        yield f"steps in damaged lines of the journal of {run}: {', '.join(map(str, numbers))}"


def _was_own_store(registry: Registry, folder: Path, run: str) -> bool:
    return is_own_store(journal.source_of(folder, run), registry.blobs.keeps)


def _undone_lines(folder: Path, run: str) -> list[_Line]:
    """Return the lines of a run up to its last rollback; none if it was not rolled back."""
    lines = [*journal.read(folder, run)]
    last = max((number for number, line in enumerate(lines) if line["event"] == journal.UNDONE), default=0)
    return lines[:last]


def _remove_tagged(registry: Registry, line: _Line, result: RollbackResult) -> set[_RepositoryBlob]:
    """Remove a manifest that was made for a tag, if nothing uses it; return the blobs that it named."""
    if line["event"] != "pointing" or not line["made"]:
        return set()
    name = RepositoryName(line["repository"])
    made = _made_manifest(registry, name, line)
    return _remove(registry, name, made, result) if made else set()


def _remove_added(registry: Registry, line: _Line, result: RollbackResult) -> set[_RepositoryBlob]:
    """Remove an image or a manifest that nothing uses any longer; return the blobs that it named."""
    match line["event"]:
        case "image":
            return _forget(registry, line, result)
        case "manifest" if line["made"]:
            return _remove(registry, RepositoryName(line["repository"]), Digest.parse(line["digest"]), result)
        case "blob":
            return {(RepositoryName(line["repository"]), Digest.parse(line["digest"]))}
    return set()


def _restore_tag(registry: Registry, line: _Line, result: RollbackResult) -> set[_RepositoryBlob]:
    """Point a tag to where it pointed before the run, or delete it, unless it was moved since."""
    if line["event"] != "pointing":
        return set()
    name, tag = RepositoryName(line["repository"]), Tag(line["tag"])
    current = current_manifest(registry, name, tag)
    if current is None:
        return set()
    unmoved = line["image"] == current.v1_image or line.get("manifest") == str(current.digest)
    changed = str(current.digest) != line["before"]
    try:
        if unmoved and changed and _point_back(registry, name, tag, line, current.digest):
            result.tags += 1
        else:
            result.kept += (f"{name}:{tag} was moved since",)
    except TagImmutable as error:
        result.kept += (error.explanation(),)
    return set()


def _made_manifest(registry: Registry, name: RepositoryName, line: _Line) -> Digest | None:
    """Return the manifest that was made for a tag, if it still exists."""
    if line["manifest"]:
        return Digest.parse(line["manifest"])
    return registry.bridge.manifest_of(name, ImageId(line["image"]))


def _point_back(registry: Registry, name: RepositoryName, tag: Tag, line: _Line, current: Digest) -> bool:
    """Point a tag to where it pointed before, or delete it if that was nowhere or no longer exists.

    Return whether that was done: not if the tag no longer points at *current*.
    """
    before = line["before"] and Digest.parse(line["before"])
    expected = Precondition(match=frozenset({str(current)}))
    try:
        if before:
            with suppress(ManifestUnknown):
                origin = Origin(line["origin"] or Origin.V2)
                registry.manifests.retag(name, tag, before, origin, condition=expected)
                return True
        registry.tags.delete(name, tag, expected)
    except (PreconditionFailed, TagUnknown, RepositoryUnknown):
        return False
    return True


def _remove(
    registry: Registry, name: RepositoryName, digest: Digest, result: RollbackResult
) -> set[_RepositoryBlob]:
    """Remove a manifest without tags and parents; return the blobs that it named."""
    row = registry.manifests.peek(name, digest)
    if row is None:
        return set()
    seen = registry.bridge.view_of(row)
    derived = {image.json for image in (registry.v1_images.peek_ancestry(name, seen) if seen else ())}
    # What it names is read from the catalog: its document may be lost or damaged.
    reached = {each.digest for each in registry.manifests.reachable_blobs(name, digest)}
    signed = registry.manifests.signed(row)
    try:
        registry.manifests.delete(name, digest, tagged=False, restorable=False)
    except (ManifestInUse, ManifestUnknown, RepositoryUnknown):
        return set()
    result.manifests += 1
    named = reached - {each.digest for each in registry.manifests.peek_all(name, reached)}
    return {(name, each) for each in named | derived | {digest} | ({signed.digest} if signed else set())}


def _forget(registry: Registry, line: _Line, result: RollbackResult) -> set[_RepositoryBlob]:
    """Remove a V1 image that nothing uses; return its JSON and layer."""
    name, image = RepositoryName(line["repository"]), ImageId(line["id"])
    if not registry.v1_images.forget(name, image):
        return set()
    result.images += 1
    return {(name, Digest.parse(line["json"])), (name, Digest.parse(line["layer"]))}


def _release(registry: Registry, blobs: Iterable[_RepositoryBlob], *, delete_bytes: bool) -> int:
    """Unlink blobs that nothing in their repositories names; return how many were deleted altogether."""
    places = sorted(blobs, key=str)
    gone = sum(registry.blobs.release(name, digest, delete_bytes=delete_bytes) for name, digest in places)
    for name in {name for name, _ in places}:
        registry.repositories.delete_if_empty(name)
    return gone

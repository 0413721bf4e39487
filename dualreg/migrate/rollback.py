"""Rollback: what a run added is taken out again, and nothing else.

Tags that somebody has moved since stay where they are; so does whatever else uses what the run brought.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualreg.catalog.rows import Origin
from dualreg.errors import (
    ManifestInUse,
    ManifestUnknown,
    PreconditionFailed,
    RepositoryUnknown,
    TagUnknown,
)
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate import journal
from dualreg.migrate.importer import current_manifest
from dualreg.migrate.transports import is_own_store
from dualreg.registry import Registry
from dualreg.registry.preconditions import Precondition

#: A blob or manifest of a repository.
_Place = tuple[RepositoryName, Digest]


@dataclass
class Undone:
    """How much was taken out; *kept* says what stays, and why."""

    tags: int = 0
    manifests: int = 0
    images: int = 0
    blobs: int = 0
    kept: tuple[str, ...] = ()


def rollback(registry: Registry, folder: Path, *runs: str, dry_run: bool = False) -> Undone:
    """Take out what *runs* added; it can be repeated.

    What an earlier rollback had to leave, since these runs used it too, goes with them. Of what was taken
    in in place only rows go: files were there before it.

    Raises:
        ValueError: there is no such run, or nobody can tell what it did.
    """
    chosen, others = sorted(runs), [run for run in journal.runs(folder) if run not in runs]
    undone = Undone(kept=tuple(line for run in chosen for line in _unreadable(folder, run)))
    lines = [line for run in chosen for line in _lines(folder, run)]
    touched = {line["repository"] for line in lines if line["event"] == "pointing"}
    left = [line for run in others for line in _left(folder, run) if line.get("repository", "") in touched]
    places = {journal.source_of(folder, run) for run in chosen}
    in_place = any(line.get("in_place") for line in (*left, *lines))
    in_place = in_place or any(is_own_store(place, registry) for place in places)
    with registry.trial() if dry_run else nullcontext(registry) as tried:
        kept = tried.without_links() if in_place else tried
        for line in reversed(lines):
            if line["event"] == "pointing":
                _untag(kept, line, undone)
        maybe = _remove_all(kept, [*left, *lines], undone)
        undone.blobs = _release(kept, maybe, bytes_too=not (in_place or dry_run))
    if not dry_run:
        for run in chosen:
            if any(True for _ in journal.read(folder, run)):
                journal.note(folder, run, journal.UNDONE)
    return undone


def _lines(folder: Path, run: str) -> list[Mapping[str, Any]]:
    """Return what a run did.

    Raises:
        ValueError: there is no such run, or its journal does not say what it is of.
    """
    lines = [*journal.read(folder, run)]
    if lines and lines[0]["event"] != "run":
        raise ValueError(f"the journal of {run} lacks its beginning: nothing is taken out by it")
    return lines


def _unreadable(folder: Path, run: str) -> Iterator[str]:
    if numbers := journal.damaged_lines(folder, run):
        yield f"what lines {', '.join(map(str, numbers))} of the journal of {run} tell: they cannot be read"


def _left(folder: Path, run: str) -> list[Mapping[str, Any]]:
    """Return what a run had done when it was last taken out; nothing if it was not."""
    lines = [*journal.read(folder, run)]
    last = max((number for number, line in enumerate(lines) if line["event"] == journal.UNDONE), default=0)
    return lines[:last]


def _remove_all(registry: Registry, lines: Sequence[Mapping[str, Any]], undone: Undone) -> set[_Place]:
    """Remove manifests and images that nothing leads to any more; return what they named."""
    maybe = set[_Place]()
    for line in reversed(lines):
        if line["event"] == "pointing" and line["made"]:
            name = RepositoryName(line["repository"])
            made = _made(registry, name, line)
            maybe |= _remove(registry, name, made, undone) if made else set()
    for line in reversed(lines):
        match line["event"]:
            case "image":
                maybe |= _forget(registry, line, undone)
            case "manifest" if line["made"]:
                name, digest = RepositoryName(line["repository"]), Digest.parse(line["digest"])
                maybe |= _remove(registry, name, digest, undone)
            case "blob":
                maybe.add((RepositoryName(line["repository"]), Digest.parse(line["digest"])))
    return maybe


def _untag(registry: Registry, line: Mapping[str, Any], undone: Undone) -> None:
    """Take away a tag that is still what the run made it."""
    name, tag = RepositoryName(line["repository"]), Tag(line["tag"])
    here = current_manifest(registry, name, tag)
    ours = here and (line["image"] == here.seen or line.get("manifest") == str(here.digest))
    if here is None:
        return
    if ours and str(here.digest) != line["before"] and _put_back(registry, name, tag, line, here.digest):
        undone.tags += 1
    else:
        undone.kept += (f"{name}:{tag} was moved since",)


def _made(registry: Registry, name: RepositoryName, line: Mapping[str, Any]) -> Digest | None:
    """Return the manifest that was made for a tag, if it is still here."""
    if line["manifest"]:
        return Digest.parse(line["manifest"])
    return registry.bridge.manifest_of(name, ImageId(line["image"]))


def _put_back(
    registry: Registry, name: RepositoryName, tag: Tag, line: Mapping[str, Any], now: Digest
) -> bool:
    """Point a tag at what it was before, or delete it, if that is gone or was nothing.

    Return whether that was done: not if it is no longer *now*.
    """
    before = line["before"] and Digest.parse(line["before"])
    expected = Precondition(match=frozenset({str(now)}))
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


def _remove(registry: Registry, name: RepositoryName, digest: Digest, undone: Undone) -> set[_Place]:
    """Remove a manifest that nothing leads to any more; return what it named."""
    row = registry.manifests.peek(name, digest)
    if row is None:
        return set()
    seen = registry.bridge.view_of(row)
    derived = {image.json for image in (registry.v1_images.peek_ancestry(name, seen) if seen else ())}
    manifest = stored_contents(row.media_type, registry.manifests.payload(row))
    signed = registry.manifests.signed(row)
    try:
        registry.manifests.delete(name, digest, tagged=False)
    except (ManifestInUse, ManifestUnknown, RepositoryUnknown):
        return set()
    undone.manifests += 1
    named = {child.descriptor.digest for child in manifest.children if child.role is not Role.MANIFEST}
    return {(name, each) for each in named | derived | {digest} | ({signed.digest} if signed else set())}


def _forget(registry: Registry, line: Mapping[str, Any], undone: Undone) -> set[_Place]:
    name, image = RepositoryName(line["repository"]), ImageId(line["id"])
    if not registry.v1_images.forget(name, image):
        return set()
    undone.images += 1
    return {(name, Digest.parse(line["json"])), (name, Digest.parse(line["layer"]))}


def _release(registry: Registry, maybe: Iterable[_Place], *, bytes_too: bool) -> int:
    """Unlink what its repository names nowhere, and delete and count what nobody has any more."""
    places = sorted(maybe, key=str)
    gone = sum(registry.blobs.release(name, digest, delete_bytes=bytes_too) for name, digest in places)
    for name in {name for name, _ in places}:
        registry.repositories.delete_if_empty(name)
    return gone

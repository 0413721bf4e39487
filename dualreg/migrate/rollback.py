"""Rollback: what a run added is taken out again, and nothing else.

Tags that somebody has moved since stay where they are; so does whatever else uses what the run brought.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
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
from dualreg.registry.state import State
from dualreg.storage.links import Links

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
    with _trial(registry) if dry_run else nullcontext(registry) as tried:
        kept = _without_links(tried) if in_place else tried
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
    if numbers := journal.unreadable(folder, run):
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
    with registry.state.catalog.read() as tx:
        row = tx.repositories.find(name)
        return tx.views.manifest_of(row.id, ImageId(line["image"])) if row else None


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
    with registry.state.catalog.read() as tx:
        row = tx.manifests.find(name, digest)
        if row is None:
            return set()
        seen = tx.views.find(row.repository_id, digest)
        derived = {image.json for image in (tx.v1_images.ancestry(name, ImageId(seen)) if seen else ())}
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
    with registry.state.catalog.begin() as tx:
        row = tx.repositories.lock(name, exclusive=True)
        if row is None or not tx.v1_images.forget(row.id, image):
            return set()
        registry.state.links.remove_v1_image(name, image)
    undone.images += 1
    return {(name, Digest.parse(line["json"])), (name, Digest.parse(line["layer"]))}


def _release(registry: Registry, maybe: Iterable[_Place], *, bytes_too: bool) -> int:
    """Unlink what its repository names nowhere, and delete and count what nobody has any more."""
    state, gone = registry.state, 0
    for name, digest in sorted(maybe, key=str):
        with state.catalog.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            if row is None:
                continue
            for unlinked in tx.blobs.unlink(row.id, digest):
                state.links.remove_blob(name, unlinked)
            if tx.blobs.release(digest):
                gone += 1
                if bytes_too:
                    state.store.delete(digest)
    for name in {name for name, _ in maybe}:
        with state.catalog.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            if row and tx.repositories.is_empty(row.id):
                tx.repositories.remove(row.id)
                state.links.remove_repository(name)
    return gone


class _NoLinks:
    """A LinkTree that leaves files as they are."""

    def write_link(self, path: str, content: bytes) -> None: ...
    def remove_link(self, path: str) -> None: ...
    def remove_links(self, folder: str) -> None: ...
    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        return iter(())


def _without_links(registry: Registry) -> Registry:
    return _over(registry, replace(registry.state, links=Links(_NoLinks())))


@contextmanager
def _trial(registry: Registry) -> Iterator[Registry]:
    with registry.state.catalog.trial() as catalog:
        yield _over(registry, replace(registry.state, catalog=catalog, links=Links(_NoLinks())))


def _over(registry: Registry, state: State) -> Registry:
    tags, manifests = replace(registry.tags, state=state), replace(registry.manifests, state=state)
    return replace(registry, state=state, tags=tags, manifests=manifests)

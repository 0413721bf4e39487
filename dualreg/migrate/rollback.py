"""Rollback: what a run added is taken out again, and nothing else.

Tags that somebody has moved since stay where they are; so does whatever else uses what the run brought.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualreg.catalog.rows import Origin
from dualreg.errors import ManifestInUse, ManifestUnknown, RepositoryUnknown, TagUnknown
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate import journal
from dualreg.registry import Registry


@dataclass
class Undone:
    """How much was taken out; *kept* says what stays, and why."""

    tags: int = 0
    images: int = 0
    blobs: int = 0
    kept: tuple[str, ...] = ()


def rollback(registry: Registry, folder: Path, run: str, *, dry_run: bool = False) -> Undone:
    """Take out what *run* added; it can be repeated.

    Raises:
        ValueError: there is no such run.
    """
    lines = [*journal.read(folder, run)]
    undone, maybe = Undone(), set[tuple[RepositoryName, Digest]]()
    for line in reversed(lines):
        if line["event"] == "pointing":
            maybe |= _untag(registry, line, undone, dry_run=dry_run)
    if dry_run:
        undone.images = sum(line["event"] == "image" for line in lines)
        return undone
    for line in reversed(lines):
        if line["event"] == "image":
            maybe |= _forget(registry, line, undone)
    undone.blobs = _release(registry, maybe)
    return undone


def _untag(
    registry: Registry, line: Mapping[str, Any], undone: Undone, *, dry_run: bool
) -> set[tuple[RepositoryName, Digest]]:
    """Take away a tag that is still what the run made it; return what its manifest named."""
    name, tag, state = RepositoryName(line["repository"]), Tag(line["tag"]), registry.state
    with state.catalog.read() as tx:
        row = tx.manifests.find(name, tag)
        seen = row and tx.views.find(row.repository_id, row.digest)
    if row is None or seen != line["image"] or str(row.digest) == line["before"]:
        if row is not None:
            undone.kept += (f"{name}:{tag} was moved since",)
        return set()
    undone.tags += 1
    if dry_run:
        return set()
    before = line["before"] and Digest.parse(line["before"])
    with state.catalog.begin() as tx:
        repository = tx.repositories.lock(name)
        back = before if repository and before and tx.manifests.lock(repository.id, before) else None
        if repository and back:
            registry.manifests.point(tx, repository, [tag], back, Origin(line["origin"] or Origin.V2))
    if back is None:
        with suppress(TagUnknown, RepositoryUnknown):
            registry.tags.delete(name, tag)
    if not line["made"]:
        return set()
    manifest = parse(row.media_type, registry.manifests.payload(row))
    with state.catalog.read() as tx:
        if tx.tags.pointing_at(row.repository_id, row.digest):
            return set()
    with suppress(ManifestInUse, ManifestUnknown, RepositoryUnknown):
        registry.manifests.delete(name, row.digest)
    children = [child.descriptor.digest for child in manifest.children if child.role is not Role.MANIFEST]
    return {(name, digest) for digest in [*children, row.digest]}


def _forget(
    registry: Registry, line: Mapping[str, Any], undone: Undone
) -> set[tuple[RepositoryName, Digest]]:
    name, image = RepositoryName(line["repository"]), ImageId(line["id"])
    with registry.state.catalog.begin() as tx:
        row = tx.repositories.lock(name, exclusive=True)
        if row is None or not tx.v1_images.forget(row.id, image):
            return set()
        registry.state.links.remove_v1_image(name, image)
    undone.images += 1
    return {(name, Digest.parse(line["json"])), (name, Digest.parse(line["layer"]))}


def _release(registry: Registry, maybe: Iterable[tuple[RepositoryName, Digest]]) -> int:
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
                state.store.delete(digest)
                gone += 1
    for name in {name for name, _ in maybe}:
        with state.catalog.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            if row and tx.repositories.is_empty(row.id):
                tx.repositories.remove(row.id)
                state.links.remove_repository(name)
    return gone

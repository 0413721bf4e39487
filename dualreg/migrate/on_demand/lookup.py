"""Offers: what a tree behind a running registry has of one repository, without looking through the others.

What only changes with a folder is remembered until that does, so that asking often costs little.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache, TTLCache

from dualreg.errors import DigestInvalid, TagInvalid
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.on_demand.trees import OnDemandTree
from dualreg.migrate.sources.base import SourceTag
from dualreg.migrate.sources.v1_tree import is_image_id

T = TypeVar("T")
#: Repositories, and V1 images, of which something is remembered at most.
_REPOSITORIES = 256
_IMAGES = 100_000
#: Seconds for which it is remembered what tags lead to, where links are lost.
_PATIENCE = 60
#: A folder that changed within this time may change again without its time telling.
_SETTLED = 2_000_000_000


class _Kept(Generic[T]):
    """What was read of a repository, for as long as nothing is added to its folders or taken out."""

    def __init__(self) -> None:
        self._kept: LRUCache[str, tuple[list[int], T]] = LRUCache(_REPOSITORIES)
        self._lock = Lock()

    def get(self, repository: str, folders: Sequence[Path], read: Callable[[T | None], T]) -> T:
        """Return what *read* returns, who is given what was read before the folders changed."""
        times = [folder.stat().st_mtime_ns for folder in folders]
        with self._lock:
            kept = self._kept.get(repository)
        if kept and kept[0] == times:
            return kept[1]
        found = read(kept and kept[1])
        if time.time_ns() - max(times, default=0) > _SETTLED:
            with self._lock:
                self._kept[repository] = (times, found)
        return found


@dataclass
class TreeLookup:
    """Answers about a tree; every method may raise OSError."""

    tree: OnDemandTree
    _names: _Kept[frozenset[Tag]] = field(default_factory=_Kept)
    _subjects: _Kept[Mapping[Digest, Digest | None]] = field(default_factory=_Kept)
    _named: TTLCache[str, Mapping[Digest, SourceTag]] = field(
        default_factory=lambda: TTLCache(_REPOSITORIES, _PATIENCE)
    )
    _parents: LRUCache[str, str | None] = field(default_factory=lambda: LRUCache(_IMAGES))
    _lock: Lock = field(default_factory=Lock)

    def check(self) -> None:
        """Raise OSError if the tree is away now."""
        (self.tree.root / "repositories").stat()

    def names(self, repository: str) -> frozenset[Tag]:
        """Return what may be tags of a repository, by their names alone."""
        read = lambda _: frozenset(filter(None, map(_tag, self.tree.names_of(repository))))  # noqa: E731 -- of this one repository
        return self._names.get(repository, self.tree.folders_of(repository), read)

    def tag(self, repository: str, tag: Tag) -> SourceTag | None:
        """Return a tag that names something of the sort that the tree holds; it need not be there."""
        found = self.tree.tag(repository, tag)
        plausible = found and (is_image_id(found.image) or ":" in found.image)
        return found if plausible else None

    def find(self, repository: str, reference: Tag | Digest) -> SourceTag | None:
        """Return a tag, or a manifest of the repository."""
        if isinstance(reference, Digest):
            return self.revision(repository, reference)
        return self.tag(repository, reference)

    def leads_to(self, tops: Iterable[str], image: str) -> bool:
        """Tell whether one of *tops* is, or stands on, a V1 image."""
        seen: set[str] = set()
        for top in tops:
            wanted: str | None = top
            while wanted is not None and wanted not in seen:
                if wanted == image:
                    return True
                seen.add(wanted)
                wanted = self._parent(wanted)
        return False

    def revision(self, repository: str, digest: Digest) -> SourceTag | None:
        """Return a manifest that the repository itself has: a link or a tag must say so, or an index of one.

        The bytes alone, which all repositories share, say nothing.
        """
        found = self.tree.revision(repository, digest)
        if found or not self.tree.has_blob(digest):
            return found
        with self._lock:
            named = self._named.get(repository)
        if named is None:
            named = self._read_named(repository)
            with self._lock:
                self._named[repository] = named
        return named.get(digest)

    def referrers(self, repository: str, subject: Digest) -> list[SourceTag]:
        """Return the manifests of the repository that are about *subject*."""
        tree = self.tree
        read = lambda before: self._read_subjects(repository, before or {})  # noqa: E731 -- of this one repository
        subjects = self._subjects.get(repository, tree.revision_folders_of(repository), read)
        found = (tree.revision(repository, each) for each, about in subjects.items() if about == subject)
        return [*filter(None, found)]

    def _parent(self, image: str) -> str | None:
        with self._lock:
            if image in self._parents:
                return self._parents[image]
        try:
            parent = self.tree.parent(image)
        except Broken:
            return None
        with self._lock:
            self._parents[image] = parent
        return parent

    def _read_named(self, repository: str) -> Mapping[Digest, SourceTag]:
        """Return what the repository's tags and their indexes name, though no link says that it is there."""
        found: dict[Digest, SourceTag] = {}
        for name in self.names(repository):
            tag = self.tree.tag(repository, name)
            waiting = [digest] if tag and (digest := _digest(tag.image)) else []
            while tag and waiting:
                digest = waiting.pop()
                manifest = self.tree.read_manifest(repository, digest)
                if manifest and digest not in found:
                    found[digest] = replace(tag, tag="", image=str(digest))
                    waiting += [each.digest for each in manifest.described(Role.MANIFEST)]
        return found

    def _read_subjects(
        self, repository: str, before: Mapping[Digest, Digest | None]
    ) -> Mapping[Digest, Digest | None]:
        """Return what each manifest of the repository is about; none is read that was *before*."""
        found: dict[Digest, Digest | None] = {}
        for digest in self.tree.revisions_of(repository):
            if digest in before:
                found[digest] = before[digest]
            elif manifest := self.tree.read_manifest(repository, digest):
                found[digest] = manifest.subject.digest if manifest.subject else None
        return found


def _tag(name: str) -> Tag | None:
    try:
        return Tag.parse(name)
    except TagInvalid:
        return None


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None

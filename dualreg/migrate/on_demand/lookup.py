"""Lookup: what a tree has of one repository, read without a survey of the others, and cached."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache, TTLCache, cachedmethod

from dualreg.errors import DigestInvalid, TagInvalid
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.on_demand.trees import OnDemandTree
from dualreg.migrate.sources.base import SourceTag
from dualreg.migrate.sources.v1_tree import is_image_id

T = TypeVar("T")
#: The most repositories, and V1 images, in a cache.
_REPOSITORIES = 256
_IMAGES = 100_000
#: How many seconds it is cached which manifests the tags of a repository name.
_NAMED_TTL = 60
#: Nanoseconds within which a folder can change twice and keep its modification time.
_MTIME_GRANULARITY = 2_000_000_000


class _FolderCache(Generic[T]):
    """What was read from the folders of a repository; valid until their modification times change.

    Validity is checked on each access, and an outdated value helps to read the next one, so cachedmethod does
    not fit.
    """

    def __init__(self) -> None:
        self._cache: LRUCache[str, tuple[list[int], T]] = LRUCache(_REPOSITORIES)
        self._lock = Lock()

    def get(self, repository: str, folders: Sequence[Path], read: Callable[[T | None], T]) -> T:
        """Return the cached value, else what *read* returns, which is called with the outdated value."""
        times = [folder.stat().st_mtime_ns for folder in folders]
        with self._lock:
            cached = self._cache.get(repository)
        if cached and cached[0] == times:
            return cached[1]
        value = read(cached and cached[1])
        if time.time_ns() - max(times, default=0) > _MTIME_GRANULARITY:
            with self._lock:
                self._cache[repository] = (times, value)
        return value


@dataclass
class TreeLookup:
    """Looks up tags, manifests and V1 images in a tree. Every method may raise OSError."""

    tree: OnDemandTree
    _names: _FolderCache[frozenset[Tag]] = field(default_factory=_FolderCache)
    _subjects: _FolderCache[Mapping[Digest, Digest | None]] = field(default_factory=_FolderCache)
    _named: TTLCache[str, Mapping[Digest, SourceTag]] = field(
        default_factory=lambda: TTLCache(_REPOSITORIES, _NAMED_TTL)
    )
    _parents: LRUCache[str, str | None] = field(default_factory=lambda: LRUCache(_IMAGES))
    _lock: Lock = field(default_factory=Lock)

    def check(self) -> None:
        """Raise OSError if the tree is not available."""
        (self.tree.root / "repositories").stat()

    def names(self, repository: str) -> frozenset[Tag]:
        """Return the names of possible tags of a repository, without reading the tags."""

        def read(_: object) -> frozenset[Tag]:
            return frozenset(filter(None, map(_parse_tag, self.tree.names_of(repository))))

        return self._names.get(repository, self.tree.folders_of(repository), read)

    def tag(self, repository: str, tag: Tag) -> SourceTag | None:
        """Return a tag that is lost, or names a V1 image or a digest; whether that exists is not checked."""
        found = self.tree.tag(repository, tag)
        plausible = found and (found.lost or is_image_id(found.image) or ":" in found.image)
        return found if plausible else None

    def find(self, repository: str, reference: Tag | Digest) -> SourceTag | None:
        """Return a tag, or a manifest of the repository by its digest."""
        if isinstance(reference, Digest):
            return self.revision(repository, reference)
        return self.tag(repository, reference)

    def is_ancestor(self, image: str, tops: Iterable[str]) -> bool:
        """Return whether a V1 image is one of *tops*, or an ancestor of one."""
        seen: set[str] = set()
        for top in tops:
            wanted: str | None = top
            while wanted is not None and wanted not in seen:
                if wanted == image:
                    return True
                seen.add(wanted)
                try:
                    wanted = self._parent(wanted)
                except Broken:
                    break
        return False

    def revision(self, repository: str, digest: Digest) -> SourceTag | None:
        """Return a manifest that a link, a tag or an index of the repository names.

        That the tree has its bytes is not enough, since all repositories share them.
        """
        found = self.tree.revision(repository, digest)
        if found or not self.tree.has_blob(digest):
            return found
        return self._named_manifests(repository).get(digest)

    def referrers(self, repository: str, subject: Digest) -> list[SourceTag]:
        """Return the manifests of the repository whose subject is *subject*."""

        def read(before: Mapping[Digest, Digest | None] | None) -> Mapping[Digest, Digest | None]:
            return self._read_subjects(repository, before or {})

        subjects = self._subjects.get(repository, self.tree.revision_folders_of(repository), read)
        found = (self.tree.revision(repository, each) for each, of in subjects.items() if of == subject)
        return [*filter(None, found)]

    @cachedmethod(lambda self: self._parents, key=lambda _, image: image, lock=lambda self: self._lock)
    def _parent(self, image: str) -> str | None:
        return self.tree.parent(image)

    @cachedmethod(lambda self: self._named, key=lambda _, name: name, lock=lambda self: self._lock)
    def _named_manifests(self, repository: str) -> Mapping[Digest, SourceTag]:
        """Return the manifests that tags of the repository and their indexes name, linked or not."""
        found: dict[Digest, SourceTag] = {}
        for name in self.names(repository):
            tag = self.tree.tag(repository, name)
            waiting = [digest] if tag and (digest := _parse_digest(tag.image)) else []
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
        """Return the subject of each manifest of the repository, reading only those not in *before*."""
        found: dict[Digest, Digest | None] = {}
        for digest in self.tree.revisions_of(repository):
            if digest in before:
                found[digest] = before[digest]
            elif manifest := self.tree.read_manifest(repository, digest):
                found[digest] = manifest.subject.digest if manifest.subject else None
        return found


def _parse_tag(name: str) -> Tag | None:
    try:
        return Tag.parse(name)
    except TagInvalid:
        return None


def _parse_digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None

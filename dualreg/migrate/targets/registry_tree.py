"""The storage of the reference registry (distribution), in the format of dualreg's own storage.

Source of what it serves: distribution 3.0, ``registry/storage/manifeststore.go``; 2.x serves schema 1, too.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import STEP_FILES, Outgoing, TargetInvalid, check_folder
from dualreg.migrate.targets.files import has_blob
from dualreg.migrate.transfer import LARGE, LinkMode, stage_blob
from dualreg.registry.blobs import Blobs
from dualreg.storage.bulk import Bulk, BulkLink
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.links import blob_link, manifest_link, signed_link, tag_link
from dualreg.storage.staging import staging


class RegistryTreeTarget:
    """A Target."""

    takes_schema1 = True
    takes_v1 = False
    shows_v1 = False
    served = media_types.IMAGES | media_types.INDEXES
    renames = False
    one_by_one = False
    is_quick = True
    is_stream = False

    def __init__(self, path: Path, link: LinkMode, own: Blobs, *, deep: bool = False) -> None:
        """Write below *path*.

        Args:
            own: The blobs of the registry that is exported.
            deep: Read existing blobs, instead of comparing sizes.

        Raises:
            TargetInvalid: it is not a folder, or it is that store.
        """
        check_folder(path)
        self.store, self.link, self.deep = FilesystemStore(path), link, deep
        empty = Digest.of(b"")
        if own.keeps(self.store.path(empty), empty):
            raise TargetInvalid(f"{path} is the storage of this registry")
        self.places = self.store.places()

    @contextmanager
    def step(self) -> Iterator["_Step"]:
        step = _Step(self)
        try:
            yield step
            step.end()
        finally:
            step.close()

    def forget(self, repository: RepositoryName) -> None:
        del repository

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Step:
    """Blobs and links that are written together; nothing is, before the first of them comes."""

    def __init__(self, target: RegistryTreeTarget) -> None:
        self._target = target
        self._links = dict[str, BulkLink]()
        self._tags = dict[str, BulkLink]()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no further tag should be begun."""
        blobs = len(self._files.published) if self._is_begun else 0
        return len(self._links) + len(self._tags) + blobs > STEP_FILES or self._bytes > LARGE

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        sent = self._content(digest, source, deep=self._target.deep)
        self._add(blob_link(repository, digest), digest)
        return sent

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        name, digest = manifest.repository, manifest.digest
        changed = bool(self._document(digest, manifest.payload))
        if manifest.signed:
            signed = Digest.of(manifest.signed)
            self._document(signed, manifest.signed)
            self._point(self._links, signed_link(name, digest), signed)
        changed |= self._add(manifest_link(name, digest), digest)
        for tag in tags:
            changed |= self._point(self._tags, tag_link(name, tag), digest)
        return changed

    def end(self) -> None:
        """Give all of it names: blobs first, then what links them to repositories, then tags."""
        if not (self._is_begun or self._links or self._tags):
            return
        files, links, tags = self._files, self._links.values(), self._tags.values()
        files.stage_links([*links, *tags])
        files.wait()
        files.publish()
        for each in (links, tags):
            files.place_links(each)
            files.wait()

    def close(self) -> None:
        """Remove what has no name."""
        if self._is_begun:
            self._files.__exit__(None, None, None)

    @cached_property
    def _files(self) -> Bulk:
        return Bulk(self._target.places).__enter__()

    @property
    def _is_begun(self) -> bool:
        return "_files" in vars(self)

    def _add(self, path: str, digest: Digest) -> bool:
        """Link a digest, unless there is such a link; return whether there was none."""
        if path in self._links or os.path.isfile(f"{self._target.places.names}/{path}"):
            return False
        self._links[path] = _link(path, digest)
        return True

    def _point(self, links: dict[str, BulkLink], path: str, digest: Digest) -> bool:
        """Have a link be one of a digest; return whether it was not."""
        noted = links.get(path) or self._target.store.read_link(path)
        link = _link(path, digest)
        if noted and noted.content == link.content:
            return False
        links[path] = link
        return True

    def _document(self, digest: Digest, content: bytes) -> int:
        return self._content(digest, SourceBytes.of(content), deep=True)

    def _content(self, digest: Digest, source: SourceBytes, *, deep: bool) -> int:
        if self._is_begun and digest in self._files.published:
            return 0
        if has_blob(self._target.store.path(digest), digest, source.size, deep=deep):
            return 0
        if source.size > LARGE:
            return self._large(digest, source)
        file, link = self._files.file(), self._target.link
        if link is LinkMode.AUTO and not self._target.places.clones:
            link = LinkMode.COPY
        blob = stage_blob(file, source, digest, link)
        self._files.add_blob(digest, file)
        self._bytes += blob.size
        return blob.size

    def _large(self, digest: Digest, source: SourceBytes) -> int:
        """Write a large blob at once: other threads need not write it again meanwhile."""
        with staging(self._target.store) as staged:
            blob = stage_blob(staged, source, digest, self._target.link)
            staged.publish(digest)
        return blob.size


def _link(path: str, digest: Digest) -> BulkLink:
    """Return a link file at *path*; those of a tag are in one folder."""
    folder, _, name = path.rpartition("/")
    if name == "link" and folder.endswith("/current"):
        folder, name = folder.removesuffix("/current"), f"current/{name}"
    return BulkLink(folder, name, str(digest).encode())

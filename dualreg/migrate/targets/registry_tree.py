"""The storage of the reference registry (distribution), in the format of dualreg's own storage.

Source of what it serves: distribution 3.0, ``registry/storage/manifeststore.go``; 2.x serves schema 1, too.
"""

from collections.abc import Sequence
from pathlib import Path

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, TargetInvalid, check_folder
from dualreg.migrate.targets.files import has_blob
from dualreg.migrate.transfer import LinkMode, stage_blob
from dualreg.registry.blobs import Blobs
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.links import Links, blob_link, manifest_link, signed_link, tag_link
from dualreg.storage.staging import staging


class RegistryTreeTarget:
    """A Target."""

    takes_schema1 = True
    takes_v1 = False
    served = media_types.IMAGES | media_types.INDEXES
    renames = False
    one_by_one = False
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
        self._store, self._link, self._deep = FilesystemStore(path), link, deep
        self._links = Links(self._store)
        empty = Digest.of(b"")
        if own.keeps(self._store.path(empty), empty):
            raise TargetInvalid(f"{path} is the storage of this registry")

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        sent = self._content(digest, source, deep=self._deep)
        if self._target_of(blob_link(repository, digest)) is None:
            self._links.add_blob(repository, digest)
        return sent

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        name, digest = manifest.repository, manifest.digest
        changed = bool(self._document(digest, manifest.payload))
        if manifest.signed:
            signed = Digest.of(manifest.signed)
            self._document(signed, manifest.signed)
            if self._target_of(signed_link(name, digest)) != str(signed):
                self._links.add_signed(name, digest, signed)
        if self._target_of(manifest_link(name, digest)) is None:
            self._links.add_manifest(name, digest)
            changed = True
        for tag in tags:
            if self._target_of(tag_link(name, tag)) != str(digest):
                self._links.point_tag(name, tag, digest)
                changed = True
        return changed

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _target_of(self, path: str) -> str | None:
        """Return the digest in a link file; None if there is no such file."""
        found = self._store.read_link(path)
        return None if found is None else found.content.decode("ascii", "replace")

    def _document(self, digest: Digest, content: bytes) -> int:
        return self._content(digest, SourceBytes.of(content), deep=True)

    def _content(self, digest: Digest, source: SourceBytes, *, deep: bool) -> int:
        if has_blob(self._store.path(digest), digest, source.size, deep=deep):
            return 0
        with staging(self._store) as staged:
            blob = stage_blob(staged, source, digest, self._link)
            staged.publish(digest)
        return blob.size

"""Presence: whether the bytes that the catalog lists are in the store; only small ones are read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.migrate.single_flight import Recent
from dualreg.migrate.transfer import has_digest
from dualreg.registry import Registry

#: Bytes up to which a blob is read; nearly all documents are smaller.
_SMALL = 64 << 10


@dataclass
class Presence:
    """Checks each blob until it was found once: a missing one may be imported with the next tag.

    Small ones are compared with their digests: documents, without which clients get nothing. What was found
    long ago is checked again.
    """

    registry: Registry
    _sizes: Recent[bytes, int] = field(default_factory=Recent)
    _manifests: Recent[tuple[RepositoryName, bytes], bool] = field(default_factory=Recent)

    def blobs(self, blobs: Iterable[BlobRow]) -> bool:
        """Return whether all of *blobs* can be opened, and have their sizes or, if small, their digests."""
        return all(self.is_noted(blob) or self._is_stored(blob) for blob in blobs)

    def find(self, digest: Digest) -> BlobRow | None:
        """Return a blob of any repository, if that is so for it; None if there is none."""
        found = self.registry.blobs.find_anywhere(digest)
        return found if found and self.blobs([found]) else None

    def note(self, blob: BlobRow) -> None:
        """Note that a blob has just been read in the store, and is whole."""
        self._sizes.note(blob.digest.packed, blob.size)

    def is_noted(self, blob: BlobRow) -> bool:
        """Return whether a blob was found before."""
        return self._sizes.get(blob.digest.packed) == blob.size

    def manifest(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether that is so for a manifest, all that it names, and all that was derived from it."""
        if self._manifests.get((repository, digest.packed)):
            return True
        if not self.blobs(self._blobs_of(repository, digest)):
            return False
        self._manifests.note((repository, digest.packed), value=True)
        return True

    def restore(self, repository: RepositoryName, digest: Digest) -> None:
        """Derive again what is missing of a manifest, of what it names, or of what was derived from it."""
        for blob in self._blobs_of(repository, digest):
            if not self.blobs([blob]):
                self.registry.derived.restore(blob.digest)

    def _blobs_of(self, repository: RepositoryName, digest: Digest) -> Iterator[BlobRow]:
        yield from self.registry.manifests.reachable_blobs(repository, digest)
        row = self.registry.manifests.peek(repository, digest)
        if row and (signed := self.registry.manifests.signed(row)):
            yield signed
        yield from self.registry.derived.blobs(repository, digest)

    def _is_stored(self, blob: BlobRow) -> bool:
        try:
            found = self.registry.blobs.stored_size(blob.digest) == blob.size and self._is_whole(blob)
        except (OSError, BlobMissing):
            return False
        if found:
            self.note(blob)
        return found

    def _is_whole(self, blob: BlobRow) -> bool:
        """Return whether a small blob has its digest; larger ones are not read."""
        if blob.size > _SMALL:
            return True
        with self.registry.blobs.open(blob.digest) as reader:
            return has_digest(reader, blob.digest)

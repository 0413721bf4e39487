"""Finding: manifests and small documents that decide something, loaded from upstream if need be.

What clients chose may be hostile, so how much is read is bounded.
"""

from dataclasses import dataclass

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing, BlobUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.blobs import Blobs
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import State

#: Bytes that any document counts as at least: to find it takes statements, and to verify what it says, time.
_LEAST = 16 << 10


@dataclass(slots=True)
class Budget:
    """How many bytes may still be read of documents that clients chose."""

    left: int = 32 << 20

    def take(self, size: int) -> bool:
        """Return whether so many bytes may be read; if so, they count as read."""
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds manifests and documents of repositories."""

    state: State
    documents: DocumentCache
    blobs: Blobs

    def manifest(self, repository: RepositoryName, reference: Tag | Digest) -> ManifestRow | None:
        """Return a manifest, whatever `bridge` shows; None: there is no such one, upstream either."""
        row, upstream = self._peek(repository, reference), self.state.upstream
        if upstream.is_due(repository, reference, row):
            upstream.load(repository, reference)
            row = self._peek(repository, reference)
        return row

    def _peek(self, repository: RepositoryName, reference: Tag | Digest) -> ManifestRow | None:
        with self.state.catalog.read() as tx:
            return tx.manifests.find(repository, reference)

    def payload(self, digest: Digest, size: int, budget: Budget) -> bytes:
        """Return the bytes of a manifest; none if they are lost, or too much has been read."""
        try:
            return self.documents.read(digest) if budget.take(size) else b""
        except (BlobMissing, BlobDamaged):
            return b""

    def document(
        self, repository: RepositoryName, digest: Digest, budget: Budget, limit: int
    ) -> bytes | None:
        """Return a blob of up to *limit* bytes; None if it is larger, lost, or too much has been read."""
        if not budget.take(_LEAST):
            return None
        try:
            blob = self.blobs.find(repository, digest) or self.blobs.stat(repository, digest)
            if blob.size > limit or not budget.take(max(blob.size - _LEAST, 0)):
                return None
            return self.documents.read(blob.digest)
        except (BlobUnknown, BlobMissing, BlobDamaged):
            return None

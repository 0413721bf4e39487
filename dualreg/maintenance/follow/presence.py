"""Presence: whether the copy has a blob with all of its bytes."""

from dataclasses import dataclass, field

from dualreg.catalog.rebuilding import FoundBlob
from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.names import UploadId
from dualreg.storage.base import StoredBlob, read_chunks
from dualreg.storage.followed import FollowedStore


@dataclass
class Presence:
    """Looks for blobs that are about to be recorded.

    A file of the size that a manifest states is taken to be whole, as rsync verifies what it copies before it
    gives it a name. One of another size is read: manifests may state wrong sizes.

    Attributes:
        verify: Read every blob that is found for the first time.
        read: Whether blobs that were read have their digests; with what tells their files from others.
    """

    store: FollowedStore
    verify: bool = False
    read: dict[Digest, tuple[str, bool]] = field(default_factory=dict)

    def look(self, digest: Digest) -> StoredBlob | None:
        """Return what there is of a blob; None if nothing can be read."""
        try:
            return self.store.stat(digest)
        except OSError:
            return None

    def find(
        self, digest: Digest, stated: int | None = None, *, known: int | None = None
    ) -> FoundBlob | None:
        """Return the blob if it is there, whole; the empty layer always is.

        Args:
            stated: The size that a manifest states.
            known: The size that it had when it was found before.
        """
        found = self.look(digest)
        if found is None and digest == empty_layer().digest:
            self._store_empty_layer()
            found = self.look(digest)
        if found is None or not self._is_whole(found, stated, known):
            return None
        return FoundBlob(digest, found.size, found.modified_at)

    def _is_whole(self, found: StoredBlob, stated: int | None, known: int | None) -> bool:
        fits = stated in (None, found.size)
        if fits and (not self.verify or known == found.size):
            return True
        file = self.store.identity(found.digest)
        seen, is_whole = self.read.get(found.digest, ("", False))
        if seen != file:
            is_whole = self._has_digest(found.digest)
            self.read[found.digest] = file, is_whole
        return is_whole

    def _has_digest(self, digest: Digest) -> bool:
        hasher = Hasher(digest.algorithm)
        try:
            with self.store.open(digest) as reader:
                for chunk in read_chunks(reader):
                    hasher.update(chunk)
        except (BlobMissing, OSError):
            return False
        return hasher.digest() == digest

    def _store_empty_layer(self) -> None:
        """Store the layer that manifests may name although nobody has pushed it."""
        upload = UploadId.new()
        self.store.append(upload, [EMPTY_LAYER], offset=0)
        self.store.publish(upload, empty_layer().digest)

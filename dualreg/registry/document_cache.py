"""Document cache: manifests, configs and image JSONs, read once and kept in memory."""

from collections.abc import Callable
from threading import Lock

from cachetools import LRUCache, cachedmethod

from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image.digest import Digest
from dualreg.storage.base import BlobStore

#: Bytes of documents kept by each worker process.
_CAPACITY = 16 << 20
#: Makes a document again that is lost or damaged; returns whether it could.
_Restore = Callable[[Digest], bool]


class DocumentCache:
    """Reads small blobs whole and keeps them; what a digest names never changes.

    Attributes:
        restore: What makes lost and damaged documents again.
    """

    def __init__(self, store: BlobStore) -> None:
        """Read from *store*."""
        self.restore: _Restore = lambda _: False
        self._store = store
        self._cache: LRUCache[Digest, bytes] = LRUCache(_CAPACITY, getsizeof=len)
        self._lock = Lock()

    # The lock is not held while the method runs, and a document over the capacity is returned but not kept.
    @cachedmethod(lambda self: self._cache, key=lambda _, digest: digest, lock=lambda self: self._lock)
    def read(self, digest: Digest) -> bytes:
        """Return the document's bytes.

        Raises:
            BlobMissing.
            BlobDamaged: it does not have its digest any more.
        """
        try:
            return self._read(digest)
        except (BlobMissing, BlobDamaged):
            if not self.restore(digest):
                raise
        return self._read(digest)

    def _read(self, digest: Digest) -> bytes:
        with self._store.open(digest) as reader:
            document = reader.read()
        if Digest.of(document, digest.algorithm) != digest:
            raise BlobDamaged(f"{digest}: its bytes have another digest")
        return document

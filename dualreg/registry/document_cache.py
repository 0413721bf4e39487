"""Document cache: manifests, configs and image JSONs, read once and kept in memory."""

from threading import Lock

from cachetools import LRUCache, cachedmethod

from dualreg.image.digest import Digest
from dualreg.storage.base import BlobStore

#: Bytes of documents kept by each worker process.
_CAPACITY = 16 << 20


class DocumentCache:
    """Reads small blobs whole and keeps them; what a digest names never changes."""

    def __init__(self, store: BlobStore) -> None:
        """Read from *store*."""
        self._store = store
        self._cache: LRUCache[Digest, bytes] = LRUCache(_CAPACITY, getsizeof=len)
        self._lock = Lock()

    # The lock is not held while the method runs, and a document over the capacity is returned but not kept.
    @cachedmethod(lambda self: self._cache, key=lambda _, digest: digest, lock=lambda self: self._lock)
    def read(self, digest: Digest) -> bytes:
        """Return the document's bytes.

        Raises:
            BlobMissing.
        """
        with self._store.open(digest) as reader:
            return reader.read()

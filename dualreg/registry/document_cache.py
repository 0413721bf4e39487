"""Payloads: small immutable documents, read once and kept."""

from threading import Lock

from cachetools import LRUCache

from dualreg.image.digest import Digest
from dualreg.storage.base import BlobStore

#: Bytes of documents kept by each worker process.
_CAPACITY = 16 << 20


class DocumentCache:
    """Reads manifests, configs and image JSONs whole, and remembers them.

    A digest never changes its bytes.
    """

    def __init__(self, store: BlobStore) -> None:
        """Read from *store*."""
        self._store = store
        self._kept: LRUCache[Digest, bytes] = LRUCache(_CAPACITY, getsizeof=len)
        self._lock = Lock()

    def read(self, digest: Digest) -> bytes:
        """Return the document's bytes.

        Raises:
            BlobMissing.
        """
        with self._lock:
            payload = self._kept.get(digest)
        if payload is None:
            with self._store.open(digest) as reader:
                payload = reader.read()
            if len(payload) <= _CAPACITY:
                with self._lock:
                    self._kept[digest] = payload
        return payload

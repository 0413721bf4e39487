"""Document cache: manifests, configs and image JSONs, read once and kept in memory."""

import errno
from contextlib import suppress
from threading import Lock

from cachetools import LRUCache, cachedmethod

from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image.digest import Digest
from dualreg.registry.integrity import Integrity
from dualreg.storage.base import BlobStore

#: Bytes of documents kept by each worker process.
_CAPACITY = 16 << 20


class DocumentCache:
    """Reads small blobs whole and keeps them; what a digest names never changes."""

    def __init__(self, store: BlobStore, integrity: Integrity) -> None:
        """Read from *store*; *integrity* has lost documents made again, and sets damaged ones aside."""
        self._store = store
        self._integrity = integrity
        self._cache: LRUCache[Digest, bytes] = LRUCache(_CAPACITY, getsizeof=len)
        self._lock = Lock()

    # The lock is not held while the method runs, and a document over the capacity is returned but not kept.
    @cachedmethod(lambda self: self._cache, key=lambda _, digest: digest, lock=lambda self: self._lock)
    def read(self, digest: Digest) -> bytes:
        """Return the document's bytes.

        Raises:
            BlobMissing.
            BlobDamaged: it does not have its digest any more, or the disk fails to read it.
        """
        try:
            return self._read(digest)
        except (BlobMissing, BlobDamaged) as error:
            if not self._integrity.restore(digest):
                self._take_out(digest, error)
                raise
        return self._read(digest)

    def _read(self, digest: Digest) -> bytes:
        try:
            with self._store.open(digest) as reader:
                document = reader.read()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise BlobDamaged(f"{digest}: {error.strerror}") from error
        if Digest.of(document, digest.algorithm) != digest:
            raise BlobDamaged(f"{digest}: its bytes have another digest")
        return document

    def _take_out(self, digest: Digest, error: Exception) -> None:
        """Raise the alarm of a document that cannot be read, and set aside what is no longer the document."""
        with suppress(BlobMissing, OSError):
            self._integrity.verify(digest)
        self._integrity.alarm(digest, str(error))

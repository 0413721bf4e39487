"""Integrity: whether the store has what the catalog lists, looked at wherever blobs are read or relied on.

A blob whose file is lost or has another size is unknown to clients, so that the next push sends it. One that
is found to have another digest is set aside first, and is lost from then on.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import BinaryIO

from cachetools import TTLCache

from dualreg.catalog.database import DatabaseFailure, Transaction
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobMissing, BlobUnknown
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import empty_layer
from dualreg.registry.state import State
from dualreg.storage.base import read_chunks, sizes_of

_log = logging.getLogger(__name__)
#: How long an alarm is not repeated, in seconds, and for how many blobs that is remembered.
_PAUSE, _REMEMBERED = 60.0, 10_000
#: Blobs that were sent lately and may be verified.
_SERVED = 1_000


class Integrity:
    """Compares blobs with the catalog, and raises an alarm where they differ.

    Attributes:
        restore: Makes a derived blob again; returns whether it could.
        served: Blobs that were sent to clients, to be verified in the background.
    """

    def __init__(self, state: State) -> None:
        """Look at the store of *state*."""
        self.restore: Callable[[Digest], bool] = lambda _: False
        self.served: deque[Digest] = deque(maxlen=_SERVED)
        self._state = state
        self._alarmed: TTLCache[Digest, None] = TTLCache(_REMEMBERED, _PAUSE)
        self._lock = Lock()

    def has(self, blob: BlobRow) -> bool:
        """Return whether the store has a file of the blob with its size, without any further effect."""
        if self._is_known(blob):
            return True
        found = self._state.store.stat(blob.digest)
        return found is not None and found.size == blob.size

    def _is_known(self, blob: BlobRow) -> bool:
        """Return whether the store need not be asked for the blob."""
        if blob.digest == empty_layer().digest:
            return True  # it need not be in the store
        # another instance may have set it aside since, and recorded that
        return not blob.is_damaged and self._state.store.has_seen(blob.digest, blob.size)

    def present(self, tx: Transaction, sizes: Mapping[Digest, int]) -> dict[Digest, int]:
        """Return those of the blobs, given with their sizes, that the store ``has``."""
        store = self._state.store
        damaged = frozenset() if store.is_local() else tx.blobs.damaged([*sizes])
        rows = [BlobRow(digest, size, is_damaged=digest in damaged) for digest, size in sizes.items()]
        asked = {row.digest for row in rows if not self._is_known(row)}
        found = sizes_of(store, asked)
        return {
            digest: size for digest, size in sizes.items() if digest not in asked or found.get(digest) == size
        }

    def holds(self, blob: BlobRow) -> bool:
        """Return whether the store has the blob, or has it again: one that was derived is made again.

        If not, an alarm is raised. Not to be called within a transaction.
        """
        if self.has(blob) or (self.restore(blob.digest) and self.has(blob)):
            return True
        self.alarm(blob.digest, "its file is lost or has another size", lost=True)
        return False

    def require(self, blob: BlobRow) -> None:
        """Raise BlobUnknown unless the store ``holds`` the blob."""
        if not self.holds(blob):
            raise BlobUnknown(digest=str(blob.digest))

    def open(self, blob: BlobRow, *, start: int = 0, length: int | None = None) -> BinaryIO:
        """Return a reader of the blob's bytes from *start* on, all of which there are.

        Args:
            length: As of ``BlobStore.open``.

        Raises:
            BlobUnknown: the store does not hold it.
        """
        for _ in range(2):
            with suppress(BlobMissing):
                reader = self._state.store.open(blob.digest, start=start, length=length)
                if reader.seek(0, os.SEEK_END) == blob.size:
                    reader.seek(start)
                    return reader
                reader.close()
            self.require(blob)  # which may have it made again
        raise BlobUnknown(digest=str(blob.digest))

    def verify(
        self, digest: Digest, *, pace: Callable[[int], None] = lambda _: None, only_look: bool = False
    ) -> bool:
        """Return whether the stored bytes of a blob have its digest, by reading them; else set them aside.

        The empty layer is sound, whatever the store has: its bytes are known.

        Args:
            pace: Called with the number of bytes of each piece that was read.
            only_look: Leave them where they are.

        Raises:
            BlobMissing: the store has no such blob.
            OSError: it cannot be read.
        """
        if digest == empty_layer().digest:
            return True
        hasher = Hasher(digest.algorithm)
        with self._state.store.open(digest) as reader:
            for chunk in read_chunks(reader):
                hasher.update(chunk)
                pace(len(chunk))
            if hasher.digest() == digest:
                return True
            if not only_look:
                self.withdraw(digest, reader, "its bytes have another digest")
        return False

    def withdraw(self, digest: Digest, reader: BinaryIO, problem: str) -> None:
        """Take a blob out of service whose bytes, which *reader* has open, are damaged."""
        if self._state.store.quarantine(digest, reader):
            self.alarm(digest, f"{problem}; the file was set aside")

    def alarm(self, digest: Digest, problem: str, *, lost: bool = False) -> None:
        """Log what is wrong with a blob, and mark it as damaged in the catalog; at most once a minute.

        A blob that is no longer in the catalog is not damaged, but was collected after it was looked up.

        Args:
            lost: Whether its file was lost, which is looked at once more while nothing can change it.
        """
        with self._lock:
            if digest in self._alarmed:
                return
            self._alarmed[digest] = None
        with suppress(DatabaseFailure), self._state.catalog.begin() as tx:
            size = tx.checks.lock(digest)
            if size is None or (lost and self.has(BlobRow(digest, size))):
                return
            tx.blobs.mark_damaged(digest)
        _log.error("%s is damaged: %s; push it again, or run `dualreg fsck --repair`", digest, problem)

    def damaged(self) -> int:
        """Return how many blobs are known to be damaged, by any process."""
        with self._state.catalog.read() as tx:
            return tx.blobs.count_damaged()

"""Staging: bytes on their way into a store, which no name reaches until they are published."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import UnsupportedOperation
from typing import BinaryIO

from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage.base import BlobStore, FileBacked


@dataclass(frozen=True, slots=True)
class Staging:
    """One blob's bytes in a store before they are published.

    Attributes:
        upload: The name of the bytes in the store.
    """

    store: BlobStore
    upload: UploadId

    def write(self, chunks: Iterable[bytes]) -> int:
        """Write *chunks* durably, replacing what was written before; return how many bytes they are."""
        return self.store.append(self.upload, chunks, offset=0)

    def hold(self, content: bytes) -> None:
        """Take all the bytes, which are few, and are durable once they are published."""
        self.store.stage(self.upload, content)

    def adopt(self, file: BinaryIO, *, hard: bool) -> bool:
        """Share an open file (``FileBacked.stage_file``); return False if it is none, or the store cannot."""
        if not isinstance(self.store, FileBacked):
            return False
        try:
            file.fileno()
        except UnsupportedOperation:
            return False
        return self.store.stage_file(self.upload, file, hard=hard)

    def open(self) -> BinaryIO:
        """Return a reader of the staged bytes from the beginning.

        Raises:
            BlobMissing: nothing was written.
        """
        return self.store.reopen(self.upload)

    def publish(self, digest: Digest) -> None:
        """Make the bytes the blob *digest*, which the caller has verified."""
        self.store.publish(self.upload, digest)


@contextmanager
def staging(store: BlobStore) -> Iterator[Staging]:
    """Stage one blob for the block; bytes that were not published by its end are discarded."""
    staged = Staging(store, UploadId.new())
    try:
        yield staged
    finally:
        store.discard(staged.upload)

"""BlobStore: what a driver promises; and what is written once for all drivers on top of it.

A blob's life: ``append`` to a private upload, as often as it takes; ``publish`` it under its verified digest;
``open`` it; ``delete`` it. Verification is the callers' business (``registry``): a driver trusts the digest
it is given, and never judges content. Nothing here knows of repositories, tags, HTTP or SQL.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from dualreg.image.digest import CANONICAL, Digest, Hasher
from dualreg.image.names import UploadId

#: Bytes handed on at a time, wherever bytes stream.
CHUNK_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A published blob; *size* in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class StagedUpload:
    """Unpublished bytes, and when they last changed (aware, UTC)."""

    upload: UploadId
    modified_at: datetime


class BlobStore(Protocol):
    """Bytes: by digest once published, by upload id while staged.

    Every method is safe to call from several processes at once, except that one upload is written by one
    caller at a time (the catalog's lease sees to that).
    """

    def open(self, digest: Digest, *, start: int = 0) -> BinaryIO:
        """Return a reader of the blob's bytes from offset *start* on, positioned there.

        Raises:
            BlobMissing.
        """

    def delete(self, digest: Digest) -> None:
        """Remove the blob's bytes for good. An absent blob is fine."""

    def walk(self) -> Iterator[StoredBlob]:
        """Yield every published blob, in any order."""

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        """Cut the upload to *offset* bytes, write *chunks* behind, and return the new length in bytes.

        The upload begins to exist with its first append. When this returns, all its bytes are durable. If
        *chunks* raises, so does this, and the bytes past *offset* are undefined: the next append cuts them.

        Raises:
            BlobMissing: the upload does not have *offset* bytes.
        """

    def reopen(self, upload: UploadId) -> BinaryIO:
        """Return a reader of the upload's bytes from the beginning.

        Raises:
            BlobMissing: nothing was ever appended.
        """

    def publish(self, upload: UploadId, digest: Digest) -> None:
        """Make the upload's bytes the blob *digest*, atomically and durably; the upload ceases to exist.

        A blob that is already there is replaced by the same, verified bytes, which heals a damaged copy.
        Publishing an upload that is gone is fine if the blob is there: that is a repetition.

        Raises:
            BlobMissing: neither the upload nor the blob exists.
        """

    def discard(self, upload: UploadId) -> None:
        """Forget the upload's bytes. An absent upload is fine."""

    def staged(self) -> Iterator[StagedUpload]:
        """Yield every upload that has bytes, in any order."""


@runtime_checkable
class Offload(Protocol):
    """What a store can do whose blobs a front server may send itself."""

    def internal_path(self, digest: Digest) -> str:
        """Return where the blob lies below the store's blob folder, for ``X-Accel-Redirect``."""


@runtime_checkable
class Adopt(Protocol):
    """What a store can do that keeps files."""

    def adopt(self, upload: UploadId, path: Path, *, hard: bool) -> bool:
        """Make the file at *path* the upload's bytes without copying them; False if that cannot be.

        Args:
            hard: Share the file itself, which nobody may write to any more; otherwise only its blocks, where
                the file system can do that.

        Raises:
            OSError: the store cannot be written to, or the file itself cannot be shared.
        """

    def path(self, digest: Digest) -> Path:
        """Return the file that has, or would have, the blob's bytes; nobody may write to it."""

    def keeps(self, path: Path, digest: Digest) -> bool:
        """Tell whether the file at *path* is where this very store keeps the blob."""


def rehash(
    store: BlobStore, upload: UploadId, algorithm: str = CANONICAL, *updates: Callable[[bytes], None]
) -> Digest:
    """Read the upload's bytes again and return their digest; show each piece to *updates* on the way."""
    hasher = Hasher(algorithm)
    with store.reopen(upload) as staged:
        for chunk in tap(read_chunks(staged), *updates):
            hasher.update(chunk)
    return hasher.digest()


def read_chunks(reader: BinaryIO) -> Iterator[bytes]:
    """Yield what is left to read, in pieces of CHUNK_SIZE."""
    while chunk := reader.read(CHUNK_SIZE):
        yield chunk


def tap(chunks: Iterable[bytes], *updates: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield *chunks* unchanged, showing each to every one of *updates* on the way."""
    for chunk in chunks:
        for update in updates:
            update(chunk)
        yield chunk

"""BlobStore: the interface of drivers, and helpers that work with any of them.

The life of a blob: ``append`` its bytes to an upload, in one or several calls; ``publish`` the upload under
its digest; ``open`` the blob; ``delete`` it. Callers verify the digest before they publish (``registry``
does): a driver trusts it and never looks at content. It knows nothing of repositories, tags, HTTP or SQL.

``tests/contracts/blob_store.py`` tests these promises against every driver.
"""

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar, cast, runtime_checkable

from dualreg.image.digest import CANONICAL, Digest, Hasher
from dualreg.image.names import UploadId

Value = TypeVar("Value")

#: Size of the pieces in which bytes are streamed, in bytes.
CHUNK_SIZE = 1 << 20
#: The time of what has none.
_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


class StoreUnavailable(OSError):
    """An object store does not answer, or refuses what it should do; the disk of this machine is well.

    Nothing follows from it for what the store has: blobs are neither lost nor damaged. So its errno is not
    that of a disk.
    """

    def __init__(self, message: str) -> None:
        """Say what failed, and why."""
        super().__init__(errno.EHOSTDOWN, message)

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A published blob and its size in bytes.

    Attributes:
        modified_at: When its bytes were written (aware, UTC).
    """

    digest: Digest
    size: int
    modified_at: datetime = field(default=_UNKNOWN, compare=False)


@dataclass(frozen=True, slots=True)
class StagedUpload:
    """An upload that was not published yet, and when its bytes last changed (aware, UTC)."""

    upload: UploadId
    modified_at: datetime


class BlobStore(Protocol):
    """Stores bytes: under an upload id while they arrive, under their digest once they are published.

    All methods may be called by several threads and processes at once, with one exception: while a caller
    appends to a given upload, nobody else may do anything with it but read it (the catalog's lease ensures
    that). Published blobs never change: while a blob is deleted or published again, open readers go on
    reading the bytes that they opened.

    Any method may raise OSError, for example because the disk is full. Such a call may have had a part of its
    effect, and may be repeated.
    """

    def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
        """Return a reader of the blob, positioned at byte *start*; the caller closes it.

        Args:
            length: How many bytes the caller is about to read; it may read others. None: all from *start* on.

        A *start* at or past the end gives a reader without bytes. The reader need not be buffered. If it has
        a file descriptor, that is of a regular file, and may be passed to ``sendfile``.

        Raises:
            BlobMissing: there is no such blob.
        """

    def stat(self, digest: Digest) -> StoredBlob | None:
        """Return what the store has of the blob without opening it; None if there is no such blob."""

    def has_seen(self, digest: Digest, size: int) -> bool:
        """Return whether this process has found the blob, of that size, in the last minute.

        Always False where ``stat`` takes no longer. If ``open`` or ``stat`` finds none, it has not any more.
        """

    def is_local(self) -> bool:
        """Return whether ``stat`` and ``read_at_once`` ask no other machine or process."""

    def read_at_once(self, digest: Digest, size: int, *, start: int, length: int) -> bytes | None:
        """Return *length* bytes from *start* on, if they are in memory.

        None: they are not, or that cannot be known, or the store has no such blob of *size* bytes.
        """

    def quarantine(self, digest: Digest, reader: BinaryIO) -> bool:
        """Take the blob that *reader* has open out of the store, durably, and keep its bytes elsewhere.

        They are kept for the operator, in a place that no method of this class reads. Return False, and do
        nothing, if the blob was replaced or removed since it was opened, or another store opened it.
        """

    def delete(self, digest: Digest) -> None:
        """Remove the blob. It is not an error if there is none.

        After a power cut, it may be there again. Without a row it is not served, and a full collection of
        garbage finds it.
        """

    def remove(self, digest: Digest, aside: UploadId) -> None:
        """Remove the blob like ``delete``, but keep its bytes as the upload *aside* if that costs nothing.

        They stay until they are discarded or restored.
        """

    def restore(self, aside: UploadId, digest: Digest) -> None:
        """Undo ``remove``, unless the blob was published again, or its bytes were not kept."""

    def walk(self) -> Iterator[StoredBlob]:
        """Yield every published blob, ordered by digest.

        Blobs published or deleted meanwhile may be left out.
        """

    def stage(self, upload: UploadId, content: bytes) -> None:
        """Create the upload with bytes that this process is about to publish or to discard.

        Unlike after ``append``, they need not be durable before ``prepare``.
        """

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        """Truncate the upload to *offset* bytes, append *chunks*, and return the new length in bytes.

        The first append, at offset 0, creates the upload. When the call returns, all bytes of the upload are
        durable. An exception of *chunks* is passed on; the bytes past *offset* are then undefined, and the
        next append must be at *offset* or before.

        Raises:
            BlobMissing: the upload has fewer than *offset* bytes, or does not exist and *offset* is not 0.
        """

    def layout(self, upload: UploadId) -> str:
        """Return what another process needs besides its id to go on with the upload; empty: nothing.

        It is another one after each ``append``.
        """

    def adopt(self, upload: UploadId, layout: str) -> None:
        """Go on with an upload whose ``layout`` was this, whichever process has appended to it last.

        The layout of another store is ignored.
        """

    def reopen(self, upload: UploadId) -> BinaryIO:
        """Return a reader of the upload, positioned at its first byte; the caller closes it.

        Raises:
            BlobMissing: there is no such upload.
        """

    def prepare(self, upload: UploadId, digest: Digest) -> Callable[[], None]:
        """Do what ``publish`` takes time for; return what must be called before it, to wait for the disk.

        The caller has verified that the bytes have this digest. The blob may exist from now on. The upload
        stays until it is published or discarded; what is appended to it does not change the blob.

        Raises:
            BlobMissing: there is no such upload.
        """

    def publish(self, upload: UploadId, digest: Digest) -> None:
        """Turn the upload into the blob *digest*, atomically and durably.

        The caller has verified that the bytes have this digest. An existing blob is replaced, which repairs a
        damaged copy. The call may be repeated: it does nothing if the upload is gone and the blob exists.

        Raises:
            BlobMissing: neither the upload nor the blob exists.
        """

    def discard(self, upload: UploadId) -> None:
        """Remove the upload. It is not an error if there is none."""

    def staged(self) -> Iterator[StagedUpload]:
        """Yield every upload that was neither published nor discarded, in any order."""


@runtime_checkable
class SupportsAccelRedirect(Protocol):
    """A store whose blobs a server in front of the registry, such as nginx, can send itself."""

    def internal_path(self, digest: Digest) -> str | None:
        """Return the path of the blob relative to the blob folder, for ``X-Accel-Redirect``.

        None: it is where that server cannot send it from.
        """


@runtime_checkable
class SupportsLook(Protocol):
    """A store in which each ``stat`` takes a request, so that several are sent at the same time."""

    def look(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Return the sizes of those of the blobs that the store has, as ``stat`` finds them.

        Raises:
            OSError: as ``stat``.
        """


@runtime_checkable
class SupportsRedirect(Protocol):
    """A store from which clients can fetch blobs themselves."""

    def url(self, digest: Digest) -> str | None:
        """Return a URL that gives out the blob, if there is one, for some minutes, and to anyone.

        None: it is where clients cannot fetch it from.

        Raises:
            OSError: the store has no credentials for it.
        """


@runtime_checkable
class OwnsFiles(Protocol):
    """A store whose blobs are files, or some of them."""

    def owns_file(self, path: Path, digest: Digest) -> bool:
        """Return whether *path*, with links followed, is a file in which this store keeps the blob."""


@runtime_checkable
class FileBacked(OwnsFiles, Protocol):
    """A store that keeps each blob in a file of its own, so that files can be linked instead of copied."""

    def stage_file(self, upload: UploadId, file: BinaryIO, *, hard: bool) -> bool:
        """Create the upload from a regular file without copying its bytes; return whether that succeeded.

        Args:
            file: A reader of it. A path would do, but may lead to another file by now.
            hard: Make a hard link, after which the file must not be written to any more. Otherwise clone it
                (share its blocks), which is False on file systems that cannot.

        Raises:
            OSError: the store cannot be written to, or the file cannot be linked: for example because it is
                on another file system.
        """

    def path(self, digest: Digest) -> Path:
        """Return the file of the blob, whether or not it exists. It must not be written to."""


def sizes_of(store: BlobStore, digests: Collection[Digest]) -> Mapping[Digest, int]:
    """Return the sizes of those of the blobs that *store* has: by as few waits as it can do that with."""
    if _looks(type(store)):
        return cast("SupportsLook", store).look(digests)
    return {found.digest: found.size for found in map(store.stat, digests) if found}


@cache
def _looks(kind: type[BlobStore]) -> bool:
    """Return whether stores of that kind support it; to find it out takes longer than to look at a file."""
    return issubclass(kind, SupportsLook)


#: Returns whether a file is the one in which a certain store keeps a blob.
Keeps = Callable[[Path, Digest], bool]


def keeps(store: BlobStore, path: Path, digest: Digest) -> bool:
    """Return whether *path* is a file in which *store* keeps the blob."""
    return isinstance(store, OwnsFiles) and store.owns_file(path, digest)


class PrivateFiles(Protocol):
    """A store that keeps files which only their owner can read, beside the blobs."""

    def write_private(self, name: str, content: bytes) -> None:
        """Create or replace a file, atomically and durably."""

    def read_private(self, name: str) -> bytes | None:
        """Return a file; None if there is none."""


def rehash(
    store: BlobStore, upload: UploadId, algorithm: str = CANONICAL, *updates: Callable[[bytes], None]
) -> Digest:
    """Return the digest of an upload by reading all its bytes; pass each piece to every one of *updates* too.

    Raises:
        BlobMissing: there is no such upload.
    """
    hasher = Hasher(algorithm)
    with store.reopen(upload) as staged:
        for chunk in tee(read_chunks(staged), *updates):
            hasher.update(chunk)
    return hasher.digest()


def read_chunks(reader: BinaryIO) -> Iterator[bytes]:
    """Yield the remaining bytes of *reader* in pieces of up to CHUNK_SIZE."""
    while chunk := reader.read(CHUNK_SIZE):
        yield chunk


def tee(chunks: Iterable[bytes], *updates: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield *chunks* unchanged, after passing each to every one of *updates*."""
    for chunk in chunks:
        for update in updates:
            update(chunk)
        yield chunk


def merged(*sources: Iterable[Value], key: Callable[[Value], str]) -> Iterator[Value]:
    """Yield, in the order of *key*, what several sources yield in that order.

    Of what has the same key, only that of the first source.
    """
    for _, same in groupby(merge(*sources, key=key), key=key):
        yield next(same)

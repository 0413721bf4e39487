"""Transfer of blobs from a source into the store; each byte is read once, for the store and the hashes.

An error of the source fails one image. An error of the store, such as a full disk, ends the run.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import BinaryIO, Protocol

from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest, Hasher
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes
from dualreg.storage.base import CHUNK_SIZE, read_chunks, tee

#: Errors of what is written to, rather than of one file that is read: it is full, or gone.
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE)
#: Bytes that are read before what was read is recorded: a run that is killed before has to read them again.
LARGE = 16 << 20


class LinkMode(StrEnum):
    """How blobs get from a source's files into the store.

    HARD makes hard links; AUTO shares blocks where the file system can, and copies elsewhere.
    """

    AUTO = "auto"
    HARD = "hard"
    COPY = "copy"


class StagedBytes(Protocol):
    """One blob's bytes in a store before they are published: ``Staging``, or one of many files in bulk."""

    def write(self, chunks: Iterable[bytes]) -> int:
        """Write *chunks*; return how many bytes they are."""

    def adopt(self, file: BinaryIO, *, hard: bool) -> bool:
        """Share an open file; return False if the store cannot."""

    def open(self) -> BinaryIO:
        """Return a reader of the bytes from the beginning."""


class DigestVerifier:
    """Compares bytes with their digest while they are transferred.

    Attributes:
        size: How many bytes there were so far.
    """

    def __init__(self, digest: Digest) -> None:
        self._digest, self._hasher = digest, Hasher(digest.algorithm)
        self.size = 0

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self._hasher.update(data)
        self.size += len(data)

    @property
    def matches(self) -> bool:
        """Whether the bytes so far have the digest."""
        return self._hasher.digest() == self._digest

    def check(self) -> None:
        """Raise Broken unless the bytes so far have the digest."""
        if not self.matches:
            raise Broken(FindingKind.CORRUPT, str(self._digest), f"its digest is {self._hasher.digest()}")


def has_digest(reader: BinaryIO, digest: Digest) -> bool:
    """Read to the end, and return whether the content has *digest*."""
    verifier = DigestVerifier(digest)
    for chunk in read_chunks(reader):
        verifier.update(chunk)
    return verifier.matches


def stage(
    staged: StagedBytes,
    source: SourceBytes,
    link: LinkMode,
    *updates: Callable[[bytes], None],
    where: str = "",
) -> None:
    """Copy or link a blob of the source into an upload, and pass its bytes to each of *updates*.

    These are the bytes that were staged, even if the source's file changes meanwhile.

    Args:
        link: HARD requires that nothing writes to the source's file any more.
        where: The name of the blob in the source.

    Raises:
        Broken: the source cannot be read.
        OSError: the store cannot be written to, or hard links are not possible.
    """
    if not _is_linked(staged, source, link, where):
        staged.write(tee(chunks_of(source.open, where), *updates))
        return
    with staged.open() as linked:  # a file of the store, but its blocks are the source's
        deque(tee(_read(linked, where), *updates), maxlen=0)


def feed(source: SourceBytes, update: Callable[[bytes], None], where: str = "") -> None:
    """Read a blob of the source, and pass its bytes to *update*.

    Raises:
        Broken: it cannot be read.
    """
    for chunk in chunks_of(source.open, where):
        update(chunk)


def stage_blob(
    staged: StagedBytes,
    source: SourceBytes,
    digest: Digest,
    link: LinkMode,
    *updates: Callable[[bytes], None],
    where: str = "",
) -> BlobRow:
    """Stage a blob of the source as ``stage`` does, and return it.

    Raises:
        Broken: the source cannot be read, or has other bytes.
        OSError: as of ``stage``.
    """
    verifier = DigestVerifier(digest)
    stage(staged, source, link, verifier.update, *updates, where=where)
    verifier.check()
    return BlobRow(digest, verifier.size)


def read_blob(source: SourceBytes, digest: Digest, where: str) -> BlobRow:
    """Read a blob of the source through, and return it.

    Raises:
        Broken: it cannot be read, or has other bytes.
    """
    verifier = DigestVerifier(digest)
    feed(source, verifier.update, where)
    verifier.check()
    return BlobRow(digest, verifier.size)


def chunks_of(open_: Callable[[], BinaryIO], where: str) -> Iterator[bytes]:
    """Yield what a reader of the source reads; an OSError of the caller between chunks is not touched.

    Raises:
        Broken: it cannot be opened or read.
    """
    with reading(where):
        reader = open_()
    with reader:
        yield from _read(reader, where)


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn an OSError of the block, which only reads from the source, into Broken.

    Args:
        where: The name of what is read; empty: the error stays what it is.

    Raises:
        Broken: the block failed.
    """
    try:
        yield
    except OSError as error:
        if not where:
            raise
        raise Broken(FindingKind.UNREADABLE, where, f"cannot be read ({error})") from error


def is_output_error(error: OSError) -> bool:
    """Return whether everything else would fail with the same error, because the disk is full or gone."""
    return error.errno in _OUTPUT_ERRORS


def _read(reader: BinaryIO, where: str) -> Iterator[bytes]:
    while True:
        with reading(where):
            chunk = reader.read(CHUNK_SIZE)
        if not chunk:
            return
        yield chunk


def _is_linked(staged: StagedBytes, source: SourceBytes, link: LinkMode, where: str) -> bool:
    if link is LinkMode.COPY or source.path is None:
        return False
    with reading(where):
        file = source.open()  # an error after this is not one of the source
    try:
        with file:
            return staged.adopt(file, hard=link is LinkMode.HARD)
    except OSError as error:
        if link is LinkMode.AUTO:
            raise
        text = f"cannot link {source.path}: {error.strerror or error}; use --link copy"
        raise OSError(text) from error

"""Copies blobs from one store to another: those that a catalog lists, if the other store lacks them."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from typing import BinaryIO

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import empty_layer
from dualreg.maintenance.fsck.findings import Kind
from dualreg.storage.base import BlobStore, StoreUnavailable, read_chunks, tee
from dualreg.storage.staging import Staging, staging

#: Blobs that are copied at once: most of the time, each waits for the disk.
_JOBS = 8
#: What linking a file fails with if the file system cannot do it, so that the bytes are copied instead.
_UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class Missing:
    """A blob that could not be copied, since the source does not have it as it should be."""

    kind: Kind
    digest: Digest
    text: str


class _Damaged(Exception):
    """A blob differs from what it should be."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass
class Copied:
    """What was copied, or would be. The fields are keys of ``--json``.

    Attributes:
        blobs, bytes: What the catalog lists.
        added, added_bytes: What the target did not have.
        missing: What it lacks still.
    """

    blobs: int = 0
    bytes: int = 0
    added: int = 0
    added_bytes: int = 0
    missing: list[Missing] = field(default_factory=list)


@dataclass
class BlobCopy:
    """Copies blobs.

    Attributes:
        share: Make hard links where both stores are on one file system.
        verify: Also read what is not copied: blobs that the target has, and those that are linked.
        advance: Called with the blobs and bytes that are done since the last call.
        stop: Set from outside to stop between two blobs.
    """

    source: BlobStore
    target: BlobStore
    share: bool = True
    verify: bool = False
    advance: Callable[[int, int], None] = lambda *_: None
    stop: Event = field(default_factory=Event)

    def run(self, catalog: Catalog) -> Copied:
        """Copy what *catalog* lists; the result is incomplete if that was stopped.

        Raises:
            OSError: the target cannot be written to.
        """
        result = Copied()
        with ThreadPoolExecutor(_JOBS) as pool:
            for page in listed(catalog):
                for blob, outcome in zip(page, pool.map(self._copy, page), strict=True):
                    result.blobs += 1
                    result.bytes += blob.size
                    if isinstance(outcome, Missing):
                        result.missing.append(outcome)
                    elif outcome:
                        result.added += 1
                        result.added_bytes += blob.size
                    self.advance(1, blob.size)
                if self.stop.is_set():
                    break
        return result

    def plan(self, catalog: Catalog) -> Copied:
        """Return what would be copied, without reading any blob."""
        result = Copied()
        for page in listed(catalog):
            for blob in page:
                result.blobs += 1
                result.bytes += blob.size
                if not _has(self.target, blob):
                    if problem := self._problem(blob):
                        result.missing.append(problem)
                        continue
                    result.added += 1
                    result.added_bytes += blob.size
        return result

    def _copy(self, blob: BlobRow) -> Missing | bool:
        """Copy one blob unless the target has it; return whether it was copied, or why it cannot be."""
        if self.stop.is_set() or self._is_present(blob):
            return False
        if problem := self._problem(blob):
            return problem
        try:
            with self.source.open(blob.digest) as reader, staging(self.target) as staged:
                self._stage(staged, reader, blob.digest)
                staged.publish(blob.digest)
        except BlobMissing:
            return self._problem(blob) or False  # it was set aside meanwhile
        except _Damaged as error:
            return Missing(error.kind, blob.digest, str(error))
        return True

    def _is_present(self, blob: BlobRow) -> bool:
        """Return whether the target has the blob; a damaged one is set aside if blobs are verified."""
        if not _has(self.target, blob):
            return blob.digest == empty_layer().digest and self.source.stat(blob.digest) is None
        if not self.verify:
            return True
        with self.target.open(blob.digest) as reader:
            return _has_digest(reader, blob.digest) or not self.target.quarantine(blob.digest, reader)

    def _problem(self, blob: BlobRow) -> Missing | None:
        """Return what is wrong with the file of the source."""
        found = self.source.stat(blob.digest)
        if found is None and blob.digest != empty_layer().digest:
            return Missing(Kind.LOST, blob.digest, "its file is missing")
        if found and found.size != blob.size:
            text = f"its file has {found.size} bytes, expected {blob.size}"
            return Missing(Kind.SIZE, blob.digest, text)
        return None

    def _stage(self, staged: Staging, reader: BinaryIO, digest: Digest) -> None:
        """Link the blob, or copy its bytes, which are always verified.

        Raises:
            _Damaged: the bytes have another digest, or cannot be read.
        """
        hasher = Hasher(digest.algorithm)
        chunks = tee(_readable(reader), hasher.update)
        if not self._is_linked(staged, reader):
            staged.write(chunks)
        elif self.verify:
            for _ in chunks:
                pass
        else:
            return
        if hasher.digest() != digest:
            raise _Damaged(Kind.CORRUPT, "its bytes have another digest")

    def _is_linked(self, staged: Staging, reader: BinaryIO) -> bool:
        try:
            return self.share and staged.adopt(reader, hard=True)
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            self.share = self.share and error.errno == errno.EMLINK  # of this one file
            return False


def listed(catalog: Catalog) -> Iterator[Sequence[BlobRow]]:
    """Yield the blobs that a catalog lists, some at a time."""
    after: Digest | None = None
    while True:
        with catalog.read() as tx:
            page = tx.checks.blobs(after)
        if not page:
            return
        yield page
        after = page[-1].digest


def _has(store: BlobStore, blob: BlobRow) -> bool:
    found = store.stat(blob.digest)
    return found is not None and found.size == blob.size


def _has_digest(reader: BinaryIO, digest: Digest) -> bool:
    hasher = Hasher(digest.algorithm)
    with suppress(_Damaged):  # what cannot be read is no better than what is wrong
        for chunk in _readable(reader):
            hasher.update(chunk)
        return hasher.digest() == digest
    return False


def _readable(reader: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of a blob.

    Raises:
        _Damaged: they cannot be read.
    """
    try:
        yield from read_chunks(reader)
    except StoreUnavailable:
        raise
    except OSError as error:
        text = f"it cannot be read ({os.strerror(error.errno or errno.EIO)})"
        raise _Damaged(Kind.UNREADABLE, text) from error

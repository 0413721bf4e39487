"""Copies blobs from one store to another: those that a catalog lists, if the other store lacks them."""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
JOBS = 8
#: How many times as many blobs are looked at ahead, so that a large one does not stop the others.
_AHEAD = 32
#: Blobs of up to this many bytes are copied in one piece.
_SMALL = 1 << 20
#: How many blobs that were copied are reported at a time.
_REPORTED = 500
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
    """Copies blobs, several at once.

    Attributes:
        share: Make hard links where both stores are on one file system.
        verify: Also read blobs that the target has.
        verify_links: Also read what is linked; what is copied is always read.
        jobs: How many blobs are copied at once.
        advance: Called with the blobs and bytes that are done since the last call; by any thread.
        stop: Set from outside to stop; bytes of a blob that is not complete are discarded.
    """

    source: BlobStore
    target: BlobStore
    share: bool = True
    verify: bool = False
    verify_links: bool = False
    jobs: int = JOBS
    advance: Callable[[int, int], None] = lambda *_: None
    stop: Event = field(default_factory=Event)

    def run(self, catalog: Catalog, copied: Callable[[Sequence[BlobRow]], None] = lambda _: None) -> Copied:
        """Copy what *catalog* lists; the result is incomplete if that was stopped.

        Args:
            copied: Called with blobs that the target has now, and had not before, some at a time.

        Raises:
            OSError: the target cannot be written to.
        """
        result, added = Copied(), list[BlobRow]()
        for blob, outcome in self._outcomes(catalog):
            result.blobs += 1
            result.bytes += blob.size
            if isinstance(outcome, Missing):
                result.missing.append(outcome)
            elif outcome:
                result.added += 1
                result.added_bytes += blob.size
                added.append(blob)
            if len(added) == _REPORTED:
                copied(added)
                added = []
        copied(added)
        return result

    def plan(self, catalog: Catalog) -> Copied:
        """Return what would be copied, without reading any blob."""
        result = Copied()
        for blob, is_known in compared(catalog, self.target):
            result.blobs += 1
            result.bytes += blob.size
            if is_known:
                continue
            if problem := self._problem(blob):
                result.missing.append(problem)
                continue
            result.added += 1
            result.added_bytes += blob.size
        return result

    def _outcomes(self, catalog: Catalog) -> Iterator[tuple[BlobRow, Missing | bool]]:
        """Copy, and yield what became of each blob, until all are copied or it is stopped."""
        running = deque[tuple[BlobRow, Future[Missing | bool]]]()
        with closing_pool(self.jobs) as pool:
            for blob, is_known in compared(catalog, self.target):
                if self.stop.is_set():
                    break
                running.append((blob, pool.submit(self._copy, blob, is_known=is_known)))
                if len(running) > _AHEAD * self.jobs:
                    done, outcome = running.popleft()
                    yield done, outcome.result()
            yield from ((done, outcome.result()) for done, outcome in running)

    def _copy(self, blob: BlobRow, *, is_known: bool) -> Missing | bool:
        """Copy one blob unless the target has it; return whether it was copied, or why it cannot be."""
        done = _Progress(self.advance)
        try:
            if self.stop.is_set() or (is_known and self._is_sound(blob)):
                return False
            return self._copy_from_source(blob, done)
        except _Stopped:
            return False
        except _Damaged as error:
            return Missing(error.kind, blob.digest, str(error))
        finally:
            done.end(blob.size)

    def _copy_from_source(self, blob: BlobRow, done: "_Progress") -> Missing | bool:
        try:
            with self.source.open(blob.digest) as reader, staging(self.target) as staged:
                size = reader.seek(0, os.SEEK_END)
                if size != blob.size:
                    return _wrong_size(blob, size)
                reader.seek(0)
                self._stage(staged, reader, blob, done)
                staged.publish(blob.digest)
        except BlobMissing:
            return self._unless_needless(blob) or False
        return True

    def _unless_needless(self, blob: BlobRow) -> Missing | None:
        """Return that the source lacks a blob, unless the target has it by now, or nobody needs it."""
        return None if blob.digest == empty_layer().digest or _has(self.target, blob) else _lost(blob)

    def _is_sound(self, blob: BlobRow) -> bool:
        """Return whether a blob of the target has its digest; if not, it is set aside."""
        if not self.verify:
            return True
        try:
            with self.target.open(blob.digest) as reader:
                return _has_digest(reader, blob.digest) or not self.target.quarantine(blob.digest, reader)
        except BlobMissing:
            return False  # it was deleted since it was listed

    def _problem(self, blob: BlobRow) -> Missing | None:
        """Return what is wrong with the file of the source."""
        found = self.source.stat(blob.digest)
        if found is None:
            return self._unless_needless(blob)
        return None if found.size == blob.size else _wrong_size(blob, found.size)

    def _stage(self, staged: Staging, reader: BinaryIO, blob: BlobRow, done: "_Progress") -> None:
        """Link the blob, or copy its bytes, which are always verified.

        Raises:
            _Damaged: the bytes have another digest, or cannot be read.
            _Stopped: it was asked to stop.
        """
        hasher = Hasher(blob.digest.algorithm)
        chunks = self._until_stopped(tee(_readable(reader), hasher.update, done.add))
        if self._is_linked(staged, reader):
            if not (self.verify or self.verify_links):
                return
            for _ in chunks:
                pass
        elif blob.size <= _SMALL:
            staged.hold(b"".join(chunks))
        else:
            staged.write(chunks)
        if hasher.digest() != blob.digest:
            raise _Damaged(Kind.CORRUPT, "its bytes have another digest")

    def _until_stopped(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self.stop.is_set():
                raise _Stopped
            yield chunk

    def _is_linked(self, staged: Staging, reader: BinaryIO) -> bool:
        try:
            return self.share and staged.adopt(reader, hard=True)
        except FileNotFoundError:
            return False  # it was deleted since it was opened, and can still be read
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            self.share = self.share and error.errno == errno.EMLINK  # of this one file
            return False


class _Stopped(Exception):
    """A copy was asked to stop."""


@dataclass
class _Progress:
    """Counts the bytes of one blob as they are read, and the rest of it at its end."""

    advance: Callable[[int, int], None]
    read: int = 0

    def add(self, chunk: bytes) -> None:
        """Count what was read."""
        self.read += len(chunk)
        self.advance(0, len(chunk))

    def end(self, size: int) -> None:
        """Count the blob, and what was not read of it."""
        self.advance(1, size - self.read)


@contextmanager
def closing_pool(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads for the block. If it fails, what they have not begun by then is left out."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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


def compared(catalog: Catalog, store: BlobStore) -> Iterator[tuple[BlobRow, bool]]:
    """Yield the blobs that a catalog lists, and whether those are in a list of *store* with their sizes."""
    present = store.walk()
    following = next(present, None)
    for page in listed(catalog):
        sizes, last = dict[Digest, int](), str(page[-1].digest)
        while following and str(following.digest) <= last:
            sizes[following.digest] = following.size
            following = next(present, None)
        yield from ((blob, sizes.get(blob.digest) == blob.size) for blob in page)


def _lost(blob: BlobRow) -> Missing:
    return Missing(Kind.LOST, blob.digest, "its file is missing")


def _wrong_size(blob: BlobRow, size: int) -> Missing:
    return Missing(Kind.SIZE, blob.digest, f"its file has {size} bytes, expected {blob.size}")


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

"""Incoming: blobs that this registry fetches itself, each by one process at a time, read while they arrive.

A blob on its way is an upload without a client. Its id follows from the digest, so that whoever wants the
same blob finds it, and its lease says who fetches it. Its bytes grow: they are staged in the store, where
all processes read them. What reads them must not come to the end before the digest is known to be right.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import UnsupportedOperation
from itertools import chain
from threading import Lock
from typing import BinaryIO

from dualreg.catalog.rows import BlobRow, UnderwayRow, UploadRow
from dualreg.errors import BlobDamaged, BlobMissing, DigestMismatch, UploadUnknown
from dualreg.image.digest import Digest, Hasher
from dualreg.image.names import RepositoryName, UploadId
from dualreg.patterns import EVERYWHERE
from dualreg.registry.integrity import Integrity
from dualreg.registry.leases import LEASE, LeasedUpload, Leases, busy
from dualreg.registry.processes import has_ended
from dualreg.registry.state import State
from dualreg.storage.base import FileBacked, read_chunks

#: What threads are called that fetch a blob, or watch who does.
DOWNLOAD = "download"
#: After how many bytes what has arrived is made durable; and where readers see no others, as in a bucket.
_STEP, _SHORT_STEP = 64 << 20, 8 << 20
#: After how many seconds it is, if fewer have arrived.
_STEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Underway:
    """A blob on its way, as any process sees it.

    Attributes:
        row: Where its bytes are.
        arrived: How many of its bytes can be read now.
        is_held: Whether a process is fetching it, as far as is known.
    """

    row: UnderwayRow
    arrived: int
    is_held: bool


class Receiving:
    """A blob that only this process writes: what has arrived of it stays if the rest comes later.

    Attributes:
        staged: The name of its bytes in the store.
        length: How many are there.
    """

    def __init__(
        self, state: State, leased: LeasedUpload, blob: BlobRow, on_arrival: Callable[[int], None]
    ) -> None:
        """Go on where the last one has ended; bytes that are there are read again, for the digest.

        Args:
            on_arrival: Called with how many bytes can be read, whenever there are more.
        """
        self._state, self._leased, self._blob, self._on_arrival = state, leased, blob, on_arrival
        self._hasher = Hasher(blob.digest.algorithm)
        self._grows = isinstance(state.store, FileBacked)
        self._has_ended = False
        self._failure: Exception | None = None
        self.staged, self.length, self._unsynced = leased.row.staged, 0, b""
        self._read_again()

    @property
    def offset(self) -> int:
        """Where what is to be written begins."""
        return self.length + len(self._unsynced)

    def _read_again(self) -> None:
        """Hash what there is: also bytes that a process left which has ended, durable or not.

        Of those, the last one is written again, which makes all durable.

        Raises:
            BlobMissing: there is less than the catalog says.
        """
        durable, pieces = self._leased.row.offset, list[bytes]()
        with suppress(BlobMissing), self._state.store.reopen(self.staged) as reader:
            for chunk in read_chunks(reader):
                pieces.append(chunk)
                if pieces[1:]:
                    self._keep(pieces.pop(0))
        if pieces and self.length + len(pieces[0]) > durable:
            self._unsynced = pieces[0][-1:]
        self._keep(pieces[0][: -len(self._unsynced) or None] if pieces else b"")
        if self.offset < durable:
            raise BlobMissing(self.staged)
        self._leased.renew.arrived = self.length - durable

    def _keep(self, chunk: bytes) -> None:
        self._hasher.update(chunk)
        self.length += len(chunk)
        self._leased.renew()

    def write(self, chunks: Iterator[bytes]) -> None:
        """Write *chunks*, which begin at ``offset``. Whatever they raise is raised once they are durable.

        Raises:
            UploadBusy: another process has taken over.
            TooManyStagedBytes: there are too many bytes in uploads.
        """
        store, chunks = self._state.store, chain(filter(None, (self._unsynced,)), chunks)
        self._unsynced = b""
        while not self._has_ended:
            written = store.append(self.staged, self._step(chunks), offset=self.length)
            if self._failure or not self._has_ended:  # otherwise the row is about to go
                self._leased.renew.keep(written, store.layout(self.staged))
            self._on_arrival(written)
        if self._failure:
            raise self._failure

    def _step(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        end = self.length + (_STEP if self._grows else _SHORT_STEP)
        until = time.monotonic() + _STEP_SECONDS
        while self.length < end and time.monotonic() < until and (chunk := self._next(chunks)):
            self._leased.renew.count(len(chunk))
            self._hasher.update(chunk)
            yield chunk
            self.length += len(chunk)
            if self._grows:
                self._on_arrival(self.length)

    def _next(self, chunks: Iterator[bytes]) -> bytes:
        """Return the next chunk; empty if there is none, which may be a failure."""
        try:
            chunk = next(chunks, b"")
        except Exception as error:  # noqa: BLE001 -- raised by ``write``
            self._failure, chunk = error, b""
        self._has_ended = not chunk
        return chunk

    def finish(self, repository: RepositoryName) -> None:
        """Verify the bytes, and make them the blob of *repository*, and a child of what names it there.

        Raises:
            DigestMismatch: they are not the blob, and were discarded.
            UploadBusy: another process has taken over.
        """
        actual, row = self._hasher.digest(), self._leased.row
        if actual != self._blob.digest or self.length != self._blob.size:
            with self._state.begin() as tx:
                tx.uploads.remove(row.id, self._leased.lease)
            raise DigestMismatch(digest=str(self._blob.digest), actual=f"{actual}, {self.length} bytes")
        staged = (self.staged, self._blob)
        with self._state.arriving(repository, staged, counts=False) as arriving, self._state.begin() as tx:
            if not tx.uploads.remove(row.id, self._leased.lease):
                raise busy(row.id)
            owner = tx.repositories.ensure(repository)
            arriving.admit(tx, owner)
            tx.manifests.resolve_missing(owner.id, self._blob.digest)


@dataclass(frozen=True, slots=True)
class Incoming:
    """Fetches blobs. What has arrived of one is kept for the rest of it, as long as uploads are."""

    state: State
    integrity: Integrity
    leases: Leases
    _written: set[UploadId] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    @property
    def grows(self) -> bool:
        """Whether readers see each byte as soon as it has arrived, and not only those of past steps."""
        return isinstance(self.state.store, FileBacked)

    def look(self, digest: Digest) -> Underway | None:
        """Return how far a blob on its way is; None if it is not."""
        with self.state.catalog.read() as tx:
            row = tx.uploads.underway(_upload_of(digest))
        if row is None:
            return None
        now = self.state.catalog.now()
        is_held = row.until is not None and now <= row.until <= now + 2 * LEASE  # the clock may be set back
        return Underway(row, self._arrived(row), is_held and not has_ended(row.process))

    def _arrived(self, row: UnderwayRow) -> int:
        if not self.grows:
            return row.offset
        with suppress(BlobMissing), self.state.store.reopen(row.staged) as reader:
            return reader.seek(0, os.SEEK_END)
        return 0

    def open(self, row: UnderwayRow, start: int) -> BinaryIO:
        """Return a reader of what has arrived, from byte *start* on; it may end before more arrives.

        Raises:
            BlobMissing: it is not on its way any more.
        """
        with self._lock:
            if row.staged not in self._written:  # else this process knows more of it than the row said
                self.state.store.adopt(row.staged, row.layout)
        return self.reopen(row.staged, start)

    def reopen(self, staged: UploadId, start: int) -> BinaryIO:
        """Do the same with bytes that this process has written, or opened."""
        reader = self.state.store.reopen(staged)
        reader.seek(start)
        return reader

    def has_become(self, reader: BinaryIO, staged: UploadId | None, digest: Digest) -> bool:
        """Return whether the blob *digest*, which is there, consists of the bytes that *reader* has open.

        It does not if the same blob came by another way, and those are still on theirs, or were discarded.

        Args:
            staged: Their name.
        """
        store = self.state.store
        if not isinstance(store, FileBacked):
            underway = self.look(digest)
            return underway is None or underway.row.staged != staged
        with suppress(FileNotFoundError, UnsupportedOperation):
            return os.path.samestat(os.fstat(reader.fileno()), store.path(digest).stat())
        return False

    @contextmanager
    def receive(
        self, repository: RepositoryName, blob: BlobRow, on_arrival: Callable[[int], None]
    ) -> Iterator[Receiving]:
        """Fetch the blob in the block, which ends with ``Receiving.finish``, or raises.

        Raises:
            UploadBusy: another process does, or has taken over.
            UploadUnknown: it has just arrived, and is the repository's now.
        """
        upload = _upload_of(blob.digest)
        with self.state.begin() as tx:
            idle = tx.uploads.remove_idle(upload, before=tx.now - self.leases.ttl)
            tx.uploads.begin(tx.repositories.ensure(repository).id, upload, UploadId.new())
            row = tx.uploads.underway(upload)
        if idle:
            self.state.store.discard(idle)
        with self.leases.hold(row.repository if row else repository, upload, None) as leased:
            if self.link(repository, blob):
                with self.state.begin() as tx:
                    tx.uploads.remove(upload, leased.lease)
                raise UploadUnknown(upload=upload)
            with self._writing(leased.row):
                yield Receiving(self.state, leased, blob, on_arrival)

    @contextmanager
    def _writing(self, row: UploadRow) -> Iterator[None]:
        """Have those who read the bytes leave it to the block what is known of them."""
        with self._lock:
            self._written.add(row.staged)
            self.state.store.adopt(row.staged, row.layout)  # one of them may know an earlier row
        try:
            yield
        finally:
            with self._lock:
                self._written.discard(row.staged)

    def link(self, repository: RepositoryName, blob: BlobRow) -> bool:
        """Make the blob one of *repository* if any repository has it; return whether that is so.

        The caller knows that the repository it comes from has it, too.
        """
        with self.state.catalog.read() as tx:
            owner = tx.blobs.owner(blob.digest, EVERYWHERE)
            found = tx.blobs.find(owner, blob.digest) if owner else None
        if found is None or not self.integrity.holds(found):
            return False
        try:
            with (
                self.state.arriving(repository, (None, found), counts=False) as arriving,
                self.state.begin() as tx,
            ):
                target = tx.repositories.ensure(repository)
                arriving.admit(tx, target)
                tx.manifests.resolve_missing(target.id, blob.digest)
        except BlobDamaged:  # deleted meanwhile
            return False
        return True

    def open_blob(self, blob: BlobRow, start: int) -> BinaryIO:
        """Return a reader of the blob, which has arrived, from byte *start* on.

        Raises:
            BlobUnknown: the store does not have it.
        """
        return self.integrity.open(blob, start=start)


def _upload_of(digest: Digest) -> UploadId:
    """Return the id of the upload that a blob on its way is; those of clients are random."""
    return UploadId(uuid.uuid5(uuid.NAMESPACE_URL, f"blob:{digest}"))

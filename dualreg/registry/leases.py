"""Leases: one request at a time writes to an upload, and a late one never reaches the bytes of another.

A writer renews its lease while bytes arrive. Another one takes over when the lease has run out, or at once
if the process of the first has ended. A process that may be running still has the staged file open, and may
have been stopped in the middle of a write. So the new writer continues on a copy of the durable bytes, under
another name, and the file of the first has no name any more. In an object store there is nothing to copy: a
late writer adds objects, which are in no layout that is recorded. Bytes that came in one request (WHOLE) are
copied, too, before anything is added to them, wherever they are: a request that ends the upload makes them a
blob without a lease.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import BinaryIO, Never

from dualreg.catalog.database import Catalog, Undo
from dualreg.catalog.rows import WHOLE, Lease, UploadRow
from dualreg.errors import BlobMissing, RangeInvalid, UploadBusy, UploadUnknown
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.processes import has_ended, own_name
from dualreg.registry.state import State
from dualreg.registry.upload_limits import UploadLimits
from dualreg.storage.base import CHUNK_SIZE, tee

#: How long a writer may be silent before another may take over; it renews its lease three times as often.
LEASE = timedelta(seconds=30)
#: Bytes of a blob in one request before there is a row that counts them.
_UNCOUNTED = 64 << 20


@dataclass(slots=True)
class RenewLease:
    """Renews a lease while bytes move, and counts those that arrive.

    Attributes:
        row: The upload, as it was when the lease was taken.
        lease: The token of the lease.
        arrived: How many bytes have arrived since then.
    """

    catalog: Catalog
    limits: UploadLimits
    row: UploadRow
    lease: str
    arrived: int = 0
    _renewed_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        """Start now."""
        self._renewed_at = self.catalog.now()

    def __call__(self, *, force: bool = False) -> None:
        """Renew the lease if it is due, or at once.

        Raises:
            UploadBusy: another request has taken it.
        """
        if force or abs(self.catalog.now() - self._renewed_at) > LEASE / 3:  # the clock may be set back
            with self.catalog.begin(durable=False) as tx:
                others = tx.uploads.renew(self.row.id, self.lease, duration=LEASE, arriving=self.arrived)
            if others is None:
                raise busy(self.row.id)
            self.row = replace(self.row, others=others)
            self._renewed_at = self.catalog.now()

    def keep(self, offset: int, layout: str) -> None:
        """Record that *offset* bytes are durable, and renew the lease.

        Args:
            layout: Of these bytes, see ``BlobStore.layout``.

        Raises:
            UploadBusy: another request has taken it.
        """
        with self.catalog.begin() as tx:
            others = tx.uploads.renew(self.row.id, self.lease, duration=LEASE, durable=(offset, layout))
        if others is None:
            raise busy(self.row.id)
        self.row = replace(self.row, others=others, offset=offset, layout=layout)
        self.arrived, self._renewed_at = 0, self.catalog.now()

    def count(self, size: int) -> None:
        """Count *size* bytes that are about to be written, and renew the lease if it is due.

        Raises:
            UploadBusy.
            TooManyStagedBytes: there are too many with these.
        """
        self.arrived += size
        self.limits.require(self.row.others, self.row.offset + self.arrived)
        self()


@dataclass(slots=True)
class LeasedUpload:
    """An upload that only this request may write.

    Attributes:
        row: ``row.staged`` are bytes that no other process can change, nor this one if they are WHOLE.
        lease: The token under which the catalog records the lease.
        renew: Called while bytes move, so that the lease does not expire and the bytes are counted.
    """

    row: UploadRow
    lease: str
    renew: RenewLease


@dataclass(frozen=True, slots=True)
class Leases:
    """Gives the uploads of a registry to one writer at a time.

    Attributes:
        ttl: How long an upload may be idle before it counts as cancelled.
        limits: How many bytes uploads may have.
    """

    state: State
    ttl: timedelta
    limits: UploadLimits

    @contextmanager
    def hold(
        self, repository: RepositoryName, upload: UploadId, offset: int | None
    ) -> Iterator[LeasedUpload]:
        """Hold the upload's lease for the block, which ends it; release it if the block raises.

        Args:
            offset: Where the upload must end, in bytes; None: anywhere.

        Raises:
            UploadUnknown, RangeInvalid.
            UploadBusy: another request holds the lease, or has taken this one.
        """
        lease = str(UploadId.new())
        row = self._take(repository, upload, lease, offset)
        leased = LeasedUpload(row, lease, RenewLease(self.state.catalog, self.limits, row, lease))
        self.state.store.adopt(row.staged, row.layout)
        try:
            if row.stalled not in (None, WHOLE):
                self._secure(leased)
            yield leased
        except BlobMissing as error:
            # An earlier finish published the bytes but failed to commit: nothing is left to continue.
            with self.state.begin() as tx:
                if not tx.uploads.remove(upload, lease):
                    raise busy(upload) from error
            raise UploadUnknown(upload=upload) from error
        except BaseException:
            self._release(leased.row, lease)
            raise

    def to_write(self, leased: LeasedUpload, chunks: Iterable[bytes]) -> Iterable[bytes]:
        """Return *chunks*, which are to be added to the upload; bytes that are WHOLE are copied before.

        If there are none, or they are refused, nothing is changed.
        """
        if leased.row.stalled != WHOLE:
            return chunks
        pieces = iter(chunks)
        first = next(pieces, None)
        if first is None:
            return ()
        self._secure(leased)
        return chain((first,), pieces)

    def _take(
        self, repository: RepositoryName, upload: UploadId, lease: str, offset: int | None
    ) -> UploadRow:
        own, since = Lease(lease, own_name()), self.state.catalog.now() - self.ttl
        with self.state.catalog.begin(durable=False) as tx:  # no power cut leaves a process that has it
            take = partial(tx.uploads.lease, repository, upload, own, duration=LEASE)
            row = take(since=since, offset=offset)
            if row is None and (held := tx.uploads.held(upload)) and has_ended(held.process):
                row = take(since=since, offset=offset, over=held.token)
        if row is None:
            self._refuse(repository, upload, offset)
        return row

    def _refuse(self, repository: RepositoryName, upload: UploadId, offset: int | None) -> Never:
        """Raise the reason why the lease could not be taken."""
        with self.state.catalog.read() as tx:
            row = tx.uploads.find(repository, upload, since=self.state.catalog.now() - self.ttl)
        self.state.catalog.settle()
        if row is None:
            raise UploadUnknown(upload=upload)
        if offset not in (None, row.offset):
            raise RangeInvalid(repository=repository, upload=upload, offset=row.offset)
        raise busy(upload)

    def start(self, repository: RepositoryName, client: str) -> RenewLease:
        """Start an upload of *client*, and return its lease."""
        upload, lease = UploadId.new(), str(UploadId.new())
        with self.state.begin() as tx:
            tx.uploads.start(tx.repositories.ensure(repository).id, upload, client)
            row = tx.uploads.lease(repository, upload, Lease(lease, own_name()), duration=LEASE)
        assert row is not None  # noqa: S101 -- started above
        return RenewLease(self.state.catalog, self.limits, row, lease)

    def _secure(self, leased: LeasedUpload) -> None:
        """Give the upload staged bytes that nobody else can change, or relies on.

        Until that is recorded, the row names the process that lost its lease, or is WHOLE, so that the next
        writer tries if this one fails.
        """
        row, lease = leased.row, leased.lease
        if row.stalled != WHOLE and (has_ended(row.stalled or "") or row.layout):
            self._record(row, lease, row.staged)
            leased.row = replace(row, stalled=None)
            return
        staged = UploadId.new()
        discard = partial(self.state.store.discard, staged)
        try:
            if row.offset:
                self._copy(row, staged, leased.renew)
        except BaseException:
            discard()
            raise
        self._record(row, lease, staged, undo=discard)
        self.state.store.discard(row.staged)
        leased.row = replace(row, staged=staged, stalled=None)

    def _record(self, row: UploadRow, lease: str, staged: UploadId, undo: Undo | None = None) -> None:
        with self.state.catalog.begin(undo=undo) as tx:
            if not tx.uploads.secure(row.id, lease, staged, self.state.store.layout(staged)):
                raise busy(row.id)

    def _copy(self, row: UploadRow, staged: UploadId, renew: RenewLease) -> None:
        """Copy the durable bytes of an upload.

        Raises:
            BlobMissing: there are fewer than the catalog says.
        """
        with self.state.store.reopen(row.staged) as reader:
            chunks = tee(_first(reader, row.offset), lambda _: renew())
            length = self.state.store.append(staged, chunks, offset=0)
        if length < row.offset:
            raise BlobMissing(row.staged)

    def _release(self, row: UploadRow, lease: str) -> None:
        """Release the lease. If another writer has taken it, discard bytes that are no longer the upload's.

        A writer that was stalled before it created its file creates it late.
        """
        with self.state.begin() as tx:
            tx.uploads.release(row.id, lease)
            is_named = bool(tx.uploads.named([row.staged]))
        if not is_named:
            self.state.store.discard(row.staged)


@dataclass(slots=True)
class RequestCount:
    """Counts the bytes of a blob that arrives in one request, as ``Uploads.counted`` says."""

    leases: Leases
    repository: RepositoryName
    client: str
    _early: int = 0
    _counted: RenewLease | None = None

    def add(self, chunk: bytes) -> None:
        """Count *chunk*; raises as ``RenewLease.count``."""
        if self._counted:
            self._counted.count(len(chunk))
            return
        self._early += len(chunk)
        if self._early > _UNCOUNTED:
            self._counted = self.leases.start(self.repository, self.client)
            self._counted.count(self._early)

    def end(self) -> None:
        """Count none of them any longer."""
        if self._counted:
            with self.leases.state.begin() as tx:
                tx.uploads.remove(self._counted.row.id, self._counted.lease)


def busy(upload: UploadId) -> UploadBusy:
    """Return the error of a request that does not hold the lease of the upload."""
    return UploadBusy(upload=upload, retry_after=LEASE.seconds)


def _first(reader: BinaryIO, length: int) -> Iterator[bytes]:
    """Yield up to *length* bytes of *reader*."""
    while length and (chunk := reader.read(min(CHUNK_SIZE, length))):
        yield chunk
        length -= len(chunk)

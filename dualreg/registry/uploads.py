"""Uploads: blobs in transit, until their bytes are verified.

Clients upload in sessions (``start``, ``append``, ``finish``). The catalog records how many bytes of each are
durable, and one request at a time holds its lease. Bytes that arrive in one call need
no session (``ingest``, ``staging``).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import BlobRow, UploadRow
from dualreg.errors import (
    BlobMissing,
    BodyTruncated,
    DigestMismatch,
    QuotaExceeded,
    ServerBusy,
    UploadUnknown,
)
from dualreg.image.digest import CANONICAL, Digest, Hasher
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.at_once import AtOnce, Givings, read_beginning
from dualreg.registry.counting import require_any_room
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.integrity import Integrity
from dualreg.registry.leases import LEASE, LeasedUpload, Leases, RequestCount, busy
from dualreg.registry.repeats import without_repeated
from dualreg.registry.state import State
from dualreg.registry.upload_limits import UploadLimits
from dualreg.storage.base import rehash, tee
from dualreg.storage.staging import Staging, staging

#: Uploads that each process reads again at once.
_HASHED_AT_ONCE = 6


class UploadBody:
    """A request body on its way into the store; iterating it renews the lease, counts and hashes the bytes.

    A body that is cut short ends the iteration normally, so that what arrived becomes durable and counts.

    Attributes:
        failure: The error of a body that was cut short.
    """

    def __init__(self, leased: LeasedUpload, chunks: Iterable[bytes], algorithm: str) -> None:
        """Hash only if this request starts the upload: a hash cannot be continued by another request."""
        self._row = leased.row
        self._hasher = Hasher(algorithm) if leased.row.offset == 0 else None
        updates = [self._hasher.update] if self._hasher else []
        # What is refused is not hashed either.
        self._chunks = tee(chunks, lambda chunk: leased.renew.count(len(chunk)), *updates)
        self.failure: BodyTruncated | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except BodyTruncated as error:
            self.failure = error

    def digest_so_far(self, length: int) -> Digest | None:
        """Return the digest of the upload, now *length* bytes, if it is known without reading them again."""
        if self._hasher:
            return self._hasher.digest()
        return self._row.digest_so_far if length == self._row.offset else None


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as its client sees it; *offset* is the number of durable bytes."""

    repository: RepositoryName
    id: UploadId
    offset: int


@dataclass(frozen=True, slots=True)
class Uploads:
    """Receives blobs. The catalog's offset of an upload counts, whatever the store has beyond it.

    Attributes:
        ttl: How long an upload may be idle before it counts as cancelled.
        limits: How many a client may have, and how many bytes.
        hashing: For uploads that are read again: a request without a body can ask for that.
        givings: What short uploads got from this process.
    """

    state: State
    integrity: Integrity
    ttl: timedelta = timedelta(hours=24)
    limits: UploadLimits = field(default_factory=UploadLimits)
    hashing: InflatingSlots = field(default_factory=lambda: InflatingSlots(_HASHED_AT_ONCE))
    givings: Givings = field(default_factory=Givings)

    @property
    def _leases(self) -> Leases:
        return Leases(self.state, self.ttl, self.limits)

    @property
    def _at_once(self) -> AtOnce:
        return AtOnce(self.state, self.ttl, self.limits, self.givings)

    def start(self, repository: RepositoryName, client: str = "") -> Upload:
        """Start an empty upload.

        Args:
            client: Whom it counts for, as text of at most 64 characters; empty: nobody.

        Raises:
            TooManyUploads: *client* has as many as it may have; nothing was changed.
            QuotaExceeded: a quota of the repository is used up.
        """
        upload, limit = UploadId.new(), self.limits.open if client else None
        with self.state.begin() as tx:
            row = tx.repositories.ensure(repository)
            require_any_room(self.state.policies, tx, row)
            if not tx.uploads.start(row.id, upload, client, limit=limit, since=tx.now - self.ttl):
                raise self.limits.too_many()
        return Upload(repository, upload, 0)

    def status(self, repository: RepositoryName, upload: UploadId) -> Upload:
        """Return the upload with its offset.

        Raises:
            UploadUnknown: also if a crash left its row without its bytes, so that it cannot go on.
        """
        with self.state.catalog.read() as tx:
            row = tx.uploads.find(repository, upload, since=self.state.catalog.now() - self.ttl)
        if row is None or (row.offset and not self._is_staged(row)):
            raise UploadUnknown(upload=upload)
        self.state.catalog.settle()
        return Upload(repository, upload, row.offset)

    def append(
        self,
        repository: RepositoryName,
        upload: UploadId,
        chunks: Iterable[bytes],
        *,
        offset: int | None = None,
        known: int | None = None,
    ) -> Upload:
        """Write *chunks* at *offset* (None: where the upload ends) and return the upload with its new offset.

        Bytes are durable before the offset moves. It also moves when the body is cut short: what arrived
        counts.

        Args:
            chunks: Consecutive pieces of the body, any sizes, consumed once.
            offset: Where the first chunk belongs, in bytes.
            known: If *offset* is None, where the upload ended when the client was last told. If *chunks*
                begin with all that came since, the request is a repeated one, and that counts once.

        Raises:
            UploadUnknown, UploadBusy, RangeInvalid: no more was read from *chunks* than fits into memory.
            BodyTruncated: the upload holds what arrived; resume from its offset. TooManyStagedBytes is one.

        Source: OCI distribution-spec v1.1, "Pushing a blob in chunks".
        """
        beginning = read_beginning(chunks) if not (offset or known) else None
        whole = beginning.pieces if beginning and beginning.is_all else []
        if whole and self._at_once.fill(repository, upload, whole):
            return Upload(repository, upload, sum(map(len, whole)))
        chunks = beginning.chunks if beginning else chunks
        with self._leases.hold(repository, upload, offset) as leased:
            chunks = self._leases.to_write(leased, chunks)
            body = UploadBody(leased, self._new(leased, chunks, offset or known), CANONICAL)
            length = self.state.store.append(leased.row.staged, body, offset=leased.row.offset)
            self._advance(leased, length, body)
        if body.failure:
            raise body.failure
        return Upload(repository, upload, length)

    def finish(
        self,
        repository: RepositoryName,
        upload: UploadId,
        digest: Digest,
        chunks: Iterable[bytes] = (),
        *,
        offset: int | None = None,
        known: int | None = None,
    ) -> BlobRow:
        """Write the last *chunks*, verify the upload, and make it the blob *digest* of the repository.

        If there is no such upload but the repository has the blob, this is the repetition of a request whose
        answer was lost: the blob is returned, and nothing is read from *chunks*.

        Args:
            chunks: Empty, if it is known that there are none.
            offset, known: As for ``append``.

        Raises:
            UploadUnknown, UploadBusy, RangeInvalid: nothing was read from *chunks*.
            BodyTruncated: the upload holds what arrived.
            DigestMismatch: the upload is as it was before this call.
            QuotaExceeded: the blob does not fit, and the upload is gone.
            ServerBusy: too many uploads are read again; the upload holds what arrived.

        Source: OCI distribution-spec v1.1, "Pushing a blob in chunks", "POST then PUT".
        """
        if not chunks and offset is None and (blob := self._at_once.finish(repository, upload, digest)):
            return blob
        try:
            return self._finish(repository, upload, digest, chunks, offset=offset, known=known)
        except UploadUnknown:
            blob = self.state.promise(repository, digest)
            if blob is None or not self.integrity.holds(blob):
                raise
            self.state.catalog.settle()
            return blob

    def _finish(
        self,
        repository: RepositoryName,
        upload: UploadId,
        digest: Digest,
        chunks: Iterable[bytes],
        *,
        offset: int | None,
        known: int | None,
    ) -> BlobRow:
        with self._leases.hold(repository, upload, offset) as leased:
            chunks = self._leases.to_write(leased, chunks)
            staged, held = leased.row.staged, leased.row.offset
            body = UploadBody(leased, self._new(leased, chunks, offset or known), digest.algorithm)
            length = self.state.store.append(staged, body, offset=held)
            if body.failure:
                self._advance(leased, length, body)
                raise body.failure
            try:
                actual = self._digest(leased, length, body, digest.algorithm)
            except ServerBusy:
                self._advance(leased, length, body)
                raise
            if actual != digest:
                leased.renew(force=True)  # hashing may have taken long, and only the holder may truncate
                self.state.store.append(staged, (), offset=held)
                raise DigestMismatch(digest=str(digest), actual=str(actual))
            blob = BlobRow(digest, length)
            try:
                self._admit(leased, repository, blob)
            except QuotaExceeded:
                self._abandon(leased)
                raise
        return blob

    def _admit(self, leased: LeasedUpload, repository: RepositoryName, blob: BlobRow) -> None:
        """Make an upload, which was verified, a blob of the repository."""
        arriving = self.state.arriving(repository, (leased.row.staged, blob))
        with arriving as arrived, self.state.begin() as tx:
            owner = tx.uploads.finish(leased.row.id, leased.lease, repository)
            if owner is None:
                raise busy(leased.row.id)
            arrived.admit(tx, owner)

    def _abandon(self, leased: LeasedUpload) -> None:
        """Delete an upload with its bytes."""
        with self.state.begin() as tx:
            if not tx.uploads.remove(leased.row.id, leased.lease):
                raise busy(leased.row.id)
        self.state.store.discard(leased.row.staged)

    def cancel(self, repository: RepositoryName, upload: UploadId) -> None:
        """Cancel the upload: delete its row, then its bytes.

        Raises:
            UploadUnknown, UploadBusy.
        """
        with self._leases.hold(repository, upload, None) as leased:
            self._abandon(leased)

    def ingest(
        self,
        repository: RepositoryName,
        chunks: Iterable[bytes],
        *,
        expected: Digest | None = None,
        digest: Callable[[], Digest] | None = None,
        counts: bool = True,
    ) -> BlobRow:
        """Store a whole blob in the repository and return it; if anything fails, nothing is stored.

        Args:
            expected: The digest that it must have; None: any.
            digest: Returns that of *chunks* when all were read, if the caller hashes them.
            counts: Whether it counts for quotas.

        Raises:
            BodyTruncated, DigestMismatch, and whatever *chunks* raise.
        """
        hasher = Hasher(expected.algorithm if expected else CANONICAL)
        with self.staging() as staged:
            size = staged.write(chunks if digest else tee(chunks, hasher.update))
            blob = BlobRow(digest() if digest else hasher.digest(), size)
            if expected not in (None, blob.digest):
                raise DigestMismatch(digest=str(expected), actual=str(blob.digest))
            self.publish(repository, staged, blob, counts=counts)
        return blob

    @contextmanager
    def counted(
        self, repository: RepositoryName, client: str, chunks: Iterable[bytes]
    ) -> Iterator[Iterator[bytes]]:
        """Yield *chunks*, which are counted for *client* until the block ends.

        They are all of a blob, for ``ingest`` or ``V1Images.put_layer``. A few megabytes are not worth a row
        of the catalog. Beyond that there is one, as if they were an upload's, without staged bytes.

        Raises:
            TooManyStagedBytes: there are too many with these.
        """
        counting = RequestCount(self._leases, repository, client)
        try:
            yield tee(chunks, counting.add)
        finally:
            counting.end()

    def staging(self) -> AbstractContextManager[Staging]:
        """Stage one blob's bytes for the block, outside any upload session.

        They are discarded at its end, unless ``publish`` or ``V1Images.import_images`` took them.
        """
        return staging(self.state.store)

    def publish(
        self, repository: RepositoryName, staged: Staging, blob: BlobRow, *, counts: bool = True
    ) -> None:
        """Make *staged* bytes, which the caller has verified to be *blob*, a blob of the repository."""
        arrival = self.state.arriving(repository, (staged.upload, blob), counts=counts)
        with arrival as arriving, self.state.begin() as tx:
            arriving.admit(tx, tx.repositories.ensure(repository))

    def idle(self, before: datetime, limit: int | None = None) -> tuple[UploadId, ...]:
        """Return the upload sessions that no client has touched since *before*, at most *limit* of them."""
        with self.state.catalog.read() as tx:
            return tx.uploads.idle(before=before, limit=limit)

    def strays(self, before: datetime) -> Iterator[UploadId]:
        """Yield staged bytes older than *before* that belong to no session: a crash left them."""
        old = (each.upload for each in self.state.store.staged() if each.modified_at < before)
        for batch in batches(old):
            with self.state.catalog.read() as tx:
                named = tx.uploads.named(batch)
            self.state.catalog.settle()  # a power cut must not bring back the row that named them
            yield from (staged for staged in batch if staged not in named)

    def expire(self, upload: UploadId, before: datetime) -> bool:
        """Discard an upload session unless a client has touched it since *before*; return whether it went.

        The row goes first: once it is gone, no client can write to the bytes that go next.
        """
        with self.state.begin() as tx:
            staged = tx.uploads.remove_idle(upload, before=before)
        if staged:
            self.state.store.discard(staged)
        return staged is not None

    def discard_stray(self, upload: UploadId) -> None:
        """Discard staged bytes that ``strays`` found."""
        self.state.store.discard(upload)

    def _new(self, leased: LeasedUpload, chunks: Iterable[bytes], known: int | None) -> Iterator[bytes]:
        """Yield *chunks* without what a first try of the request left, as ``append`` says of *known*."""
        held = leased.row.offset
        if known is None or known >= held:
            yield from chunks
            return
        with self.state.store.reopen(leased.row.staged) as stored:
            stored.seek(known)
            arriving = tee(chunks, lambda _: leased.renew())
            yield from filter(None, without_repeated(arriving, stored, held - known))

    def _is_staged(self, row: UploadRow) -> bool:
        self.state.store.adopt(row.staged, row.layout)
        try:
            self.state.store.reopen(row.staged).close()
        except BlobMissing:
            return False
        return True

    def _advance(self, leased: LeasedUpload, length: int, body: UploadBody) -> None:
        """Move the offset to *length* bytes and release the lease."""
        so_far, layout = body.digest_so_far(length), self.state.store.layout(leased.row.staged)
        with self.state.begin() as tx:
            if not tx.uploads.advance(
                leased.row.id, leased.lease, offset=length, layout=layout, digest_so_far=so_far
            ):
                raise busy(leased.row.id)

    def _digest(self, leased: LeasedUpload, length: int, body: UploadBody, algorithm: str) -> Digest:
        """Return the digest of the whole upload, reading it again only if it was not hashed in one go."""
        known = body.digest_so_far(length)
        if known and known.algorithm == algorithm:
            return known
        with self.hashing.slot(patience=LEASE.total_seconds() / 2):
            return rehash(self.state.store, leased.row.staged, algorithm, lambda _: leased.renew())

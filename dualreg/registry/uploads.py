"""Uploads: bytes on their way in, until they are proven to be what they were said to be."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Never, Protocol

from dualreg.catalog.rows import BlobRow, RepositoryRow, UploadRow
from dualreg.errors import BlobMissing, BodyTruncated, DigestMismatch, RangeInvalid, UploadBusy, UploadUnknown
from dualreg.image.digest import CANONICAL, Digest, Hasher
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.state import State
from dualreg.storage.base import rehash, tee
from dualreg.storage.staging import Staging, staging


class Renew(Protocol):
    """Keeps a lease: now and then, or at once if *force* is set."""

    def __call__(self, *, force: bool = False) -> None:
        """Raise UploadBusy if the lease is lost."""


@dataclass(frozen=True, slots=True)
class Leased:
    """An upload that this request alone may write now.

    Attributes:
        lease: Proves it to the catalog.
        renew: To be called while bytes move; keeps the lease from running out.
    """

    row: UploadRow
    lease: str
    renew: Renew


class IncomingBody:
    """A request body on its way into the store, keeping the lease alive and, where that helps, hashing.

    A body that ends early ends the iteration like any other, so that what did arrive becomes durable and
    counts; *failure* keeps the error for later.
    """

    def __init__(self, leased: Leased, chunks: Iterable[bytes], algorithm: str) -> None:
        """Hash only from the very first byte on.

        A hash cannot be taken up again where another request left it.
        """
        self._row = leased.row
        self._hasher = Hasher(algorithm) if leased.row.offset == 0 else None
        updates = [self._hasher.update] if self._hasher else []
        self._chunks = tee(chunks, *updates, lambda _: leased.renew())
        self.failure: BodyTruncated | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except BodyTruncated as error:
            self.failure = error

    def digest_so_far(self, length: int) -> Digest | None:
        """Return the digest of the whole upload, now *length* bytes, if no reading is needed for it."""
        if self._hasher:
            return self._hasher.digest()
        return self._row.digest_so_far if length == self._row.offset else None


#: How long a writer may be silent before another may take over; it renews its lease three times as often.
LEASE = timedelta(seconds=30)
#: Stray uploads looked up in the catalog at a time.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as its client sees it; *offset* is the number of bytes that are durable."""

    repository: RepositoryName
    id: UploadId
    offset: int


@dataclass(frozen=True, slots=True)
class Uploads:
    """The rules of uploads.

    The catalog's offset is the truth, and one request at a time holds the lease to move it.

    Attributes:
        ttl: How long an upload may be idle; after that it is as good as cancelled.
    """

    state: State
    ttl: timedelta = timedelta(hours=24)

    def start(self, repository: RepositoryName) -> Upload:
        """Begin an empty upload."""
        upload = UploadId.new()
        with self.state.catalog.begin() as tx:
            tx.uploads.start(tx.repositories.ensure(repository).id, upload)
        return Upload(repository, upload, 0)

    def status(self, repository: RepositoryName, upload: UploadId) -> Upload:
        """Return how far the upload has come.

        Raises:
            UploadUnknown.
        """
        with self.state.catalog.read() as tx:
            row = tx.uploads.find(repository, upload, since=self.state.catalog.now() - self.ttl)
        if row is None:
            raise UploadUnknown(upload=upload)
        return Upload(repository, upload, row.offset)

    def append(
        self,
        repository: RepositoryName,
        upload: UploadId,
        chunks: Iterable[bytes],
        *,
        offset: int | None = None,
    ) -> Upload:
        """Write *chunks* at *offset* (None: wherever the upload ends) and return the upload's new state.

        Bytes are durable before the offset moves. It also moves when the body ends early: what arrived
        counts.

        Args:
            chunks: Consecutive pieces of the body, any sizes, consumed once.
            offset: Where the first chunk belongs, in bytes.

        Raises:
            UploadUnknown, UploadBusy, RangeInvalid: nothing was read from *chunks*.
            BodyTruncated: the upload holds what arrived; resume from its offset.

        Source: OCI distribution-spec v1.1, "Pushing a blob in chunks".
        """
        with self._leased(repository, upload, offset) as leased:
            intake = IncomingBody(leased, chunks, CANONICAL)
            length = self.state.store.append(upload, intake, offset=leased.row.offset)
            self._advance(leased, length, intake)
        if intake.failure:
            raise intake.failure
        return Upload(repository, upload, length)

    def finish(
        self,
        repository: RepositoryName,
        upload: UploadId,
        digest: Digest,
        chunks: Iterable[bytes] = (),
        *,
        offset: int | None = None,
    ) -> BlobRow:
        """Write the last *chunks*, verify the whole, and make it the repository's blob *digest*.

        Raises:
            UploadUnknown, UploadBusy, RangeInvalid: nothing was read from *chunks*.
            BodyTruncated: the upload holds what arrived.
            DigestMismatch: the upload is what it was before this call.

        Source: OCI distribution-spec v1.1, "Pushing a blob in chunks", "POST then PUT".
        """
        with self._leased(repository, upload, offset) as leased:
            held = leased.row.offset
            intake = IncomingBody(leased, chunks, digest.algorithm)
            length = self.state.store.append(upload, intake, offset=held)
            if intake.failure:
                self._advance(leased, length, intake)
                raise intake.failure
            if self._digest(leased, length, intake, digest.algorithm) != digest:
                leased.renew(force=True)  # hashing may have taken long, and only the lease's holder may cut
                self.state.store.append(upload, (), offset=held)
                raise DigestMismatch(digest=str(digest))
            blob = BlobRow(digest, length)
            with self.state.catalog.begin() as tx:
                if not tx.uploads.remove(upload, leased.lease):
                    raise UploadBusy(upload=upload)
                self.state.admit(tx, RepositoryRow(leased.row.repository_id, repository), upload, blob)
        return blob

    def cancel(self, repository: RepositoryName, upload: UploadId) -> None:
        """Forget the upload: its bytes, then its row.

        Raises:
            UploadUnknown, UploadBusy.
        """
        with self._leased(repository, upload, None) as leased:
            self.state.store.discard(upload)
            with self.state.catalog.begin() as tx:
                tx.uploads.remove(upload, leased.lease)

    def ingest(
        self,
        repository: RepositoryName,
        chunks: Iterable[bytes],
        *,
        expected: Digest | None = None,
    ) -> BlobRow:
        """Take in a whole blob in one call, and return it; if anything goes wrong, nothing was taken in.

        Args:
            expected: The digest it must have; without, it gets the one it has.

        Raises:
            BodyTruncated, DigestMismatch, and whatever *chunks* raise.
        """
        hasher = Hasher(expected.algorithm if expected else CANONICAL)
        with self.staging() as staged:
            size = staged.write(tee(chunks, hasher.update))
            blob = BlobRow(hasher.digest(), size)
            if expected not in (None, blob.digest):
                raise DigestMismatch(digest=str(expected))
            self.publish(repository, staged, blob)
        return blob

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """Stage one blob's bytes for the block, outside any upload session.

        They are discarded at its end, unless ``publish`` or ``V1Images.import_image`` took them.
        """
        with staging(self.state.store) as staged:
            yield staged

    def publish(self, repository: RepositoryName, staged: Staging, blob: BlobRow) -> None:
        """Make *staged* bytes, which the caller has verified to be *blob*, a blob of the repository.

        Raises:
            BlobDamaged: the catalog knows the blob with another size.
        """
        with self.state.catalog.begin() as tx:
            self.state.admit(tx, tx.repositories.ensure(repository), staged.upload, blob)

    def idle(self, before: datetime) -> tuple[UploadId, ...]:
        """Return the upload sessions that no client has touched since *before*."""
        with self.state.catalog.read() as tx:
            return tx.uploads.idle(before=before)

    def strays(self, before: datetime) -> Iterator[UploadId]:
        """Yield staged bytes older than *before* that belong to no session: a crash left them."""
        old = (each.upload for each in self.state.store.staged() if each.modified_at < before)
        while batch := list(islice(old, _BATCH)):
            with self.state.catalog.read() as tx:
                known = tx.uploads.known(batch)
            yield from (upload for upload in batch if upload not in known)

    def expire(self, upload: UploadId, before: datetime) -> bool:
        """Discard an upload session unless a client has touched it since *before*; return whether it went.

        The row goes first: once it is gone, no client can write to the bytes that go next.
        """
        with self.state.catalog.begin() as tx:
            removed = tx.uploads.remove_idle(upload, before=before)
        if removed:
            self.state.store.discard(upload)
        return removed

    def discard_stray(self, upload: UploadId) -> None:
        """Discard staged bytes that ``strays`` found."""
        self.state.store.discard(upload)

    @contextmanager
    def _leased(self, repository: RepositoryName, upload: UploadId, offset: int | None) -> Iterator[Leased]:
        """Hold the upload's lease for the block; give it back if the block raises."""
        lease, catalog = str(UploadId.new()), self.state.catalog

        def take() -> UploadRow:
            with catalog.begin() as tx:
                since = catalog.now() - self.ttl
                row = tx.uploads.lease(repository, upload, lease, duration=LEASE, since=since, offset=offset)
            if row is None:
                self._refuse(repository, upload, offset)
            return row

        row = take()
        renewed_at = catalog.now()

        def renew(*, force: bool = False) -> None:
            nonlocal renewed_at
            if force or catalog.now() - renewed_at > LEASE / 3:
                with catalog.begin() as tx:
                    if not tx.uploads.renew(upload, lease, duration=LEASE):
                        raise UploadBusy(upload=upload)
                renewed_at = catalog.now()

        try:
            yield Leased(row, lease, renew)
        except BlobMissing as error:
            # An earlier finish published the bytes but could not commit: there is nothing left to go on with.
            with catalog.begin() as tx:
                tx.uploads.remove(upload, lease)
            raise UploadUnknown(upload=upload) from error
        except BaseException:
            with catalog.begin() as tx:
                tx.uploads.release(upload, lease)
            raise

    def _refuse(self, repository: RepositoryName, upload: UploadId, offset: int | None) -> Never:
        """Say why the lease could not be had."""
        held = self.status(repository, upload).offset
        if offset not in (None, held):
            raise RangeInvalid(repository=repository, upload=upload, offset=held)
        raise UploadBusy(upload=upload)

    def _advance(self, leased: Leased, length: int, intake: IncomingBody) -> None:
        """Make *length* bytes the truth, and give the lease back."""
        so_far = intake.digest_so_far(length)
        with self.state.catalog.begin() as tx:
            if not tx.uploads.advance(leased.row.id, leased.lease, offset=length, digest_so_far=so_far):
                raise UploadBusy(upload=leased.row.id)

    def _digest(self, leased: Leased, length: int, intake: IncomingBody, algorithm: str) -> Digest:
        """Return the digest of the whole upload, read again only if no hasher saw it all."""
        known = intake.digest_so_far(length)
        if known and known.algorithm == algorithm:
            return known
        return rehash(self.state.store, leased.row.id, algorithm, lambda _: leased.renew())

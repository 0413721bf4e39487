"""Blobs: bytes by digest, and which repositories may read them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobInUse, BlobUnknown
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.names import RepositoryName
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry.counting import uncount_links
from dualreg.registry.integrity import Integrity
from dualreg.registry.pages import Page
from dualreg.registry.state import STEP, State
from dualreg.registry.upstream import ComingBlob
from dualreg.storage.base import FileBacked, SupportsAccelRedirect, SupportsRedirect, keeps

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Blobs:
    """Reads, mounts and deletes blobs.

    The store is shared: a repository may read a blob only if the catalog links it to the repository.
    """

    state: State
    integrity: Integrity

    def stat(self, repository: RepositoryName, digest: Digest) -> BlobRow:
        """Return the blob with its size as the catalog has it; ``require`` looks whether there are bytes.

        One that is not there is fetched from upstream, if it has it.

        Raises:
            BlobUnknown: it is not linked to this repository.
            RegistryError: upstream does not send it.
        """
        found = self.find_or_await(repository, digest)
        if isinstance(found, BlobRow):
            return found
        found.fetch()
        blob = self.state.promise(repository, digest)
        if blob is None:
            raise BlobUnknown(digest=str(digest))
        return blob

    def find_or_await(self, repository: RepositoryName, digest: Digest) -> BlobRow | ComingBlob:
        """Return the blob as ``stat``, but one that only upstream has before it is here.

        The empty layer is in every repository, pushed or not: generated schema 1 manifests name it.

        Raises:
            BlobUnknown: it is neither linked to this repository, nor does upstream have it.
            ServerBusy, UpstreamFailed: upstream cannot be asked now.
        """
        blob = self.state.promise(repository, digest)
        if blob is None and digest == empty_layer().digest:
            return BlobRow(digest, len(EMPTY_LAYER))
        upstream = self.state.upstream
        found: BlobRow | ComingBlob | None = blob
        if blob is None and upstream.covers(repository):
            found = upstream.coming_blob(repository, digest)
        if found is None:
            raise BlobUnknown(digest=str(digest))
        return found

    def unchanged_until(self, blob: BlobRow) -> datetime | None:
        """Return when ``stat``, which returned *blob*, has to be called again even if no row has changed.

        None: never.
        """
        return self.state.promised_until(blob.noted_at)

    def find(self, repository: RepositoryName, digest: Digest) -> BlobRow | None:
        """Return the blob if it is linked to the repository, with no exception for the empty layer."""
        with self.state.catalog.read() as tx:
            return tx.blobs.find(repository, digest)

    def find_anywhere(self, digest: Digest) -> BlobRow | None:
        """Return the blob if it is linked to any repository."""
        with self.state.catalog.read() as tx:
            holder = tx.blobs.owner(digest, EVERYWHERE)
            return tx.blobs.find(holder, digest) if holder else None

    def known(
        self, repository: RepositoryName, digests: Collection[Digest]
    ) -> dict[Digest, tuple[BlobRow, bool]]:
        """Return those of *digests* that are linked to any repository, and whether they are to this one."""
        with self.state.catalog.read() as tx:
            return tx.blobs.known(repository, digests)

    def absent(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Return those of *digests* that are linked to no repository."""
        with self.state.catalog.read() as tx:
            wanted = frozenset(digests)
            known = tx.blobs.known(RepositoryName(""), wanted)
            return wanted.difference(known) if known else wanted  # of many, no copy

    def all(self) -> Iterator[BlobRow]:
        """Yield every blob that a repository may read, and that is not known to be damaged."""
        after, more = None, True
        while more:
            page = self.held(after, _PAGE)
            yield from page.rows
            more, after = page.more, page.end.digest if page.more else None

    def held(self, after: Digest | None, limit: int) -> Page[BlobRow]:
        """Return up to *limit* blobs that ``all`` yields.

        Args:
            after: The last one of the page before.
        """
        with self.state.catalog.read() as tx:
            rows = tx.blobs.held(after, limit + 1)
        return Page(rows[:limit], more=len(rows) > limit)

    def stored_size(self, digest: Digest) -> int | None:
        """Return how many bytes the store has of a blob, whatever the catalog says; None if it has none.

        Raises:
            OSError: the store cannot be read.
        """
        found = self.state.store.stat(digest)
        return None if found is None else found.size

    def path(self, digest: Digest) -> Path | None:
        """Return the file that holds the blob, which must not be written to; None if the store has no files.

        The empty layer has none, since it need not be stored.
        """
        store = self.state.store
        return (
            store.path(digest) if isinstance(store, FileBacked) and digest != empty_layer().digest else None
        )

    def keeps(self, path: Path, digest: Digest) -> bool:
        """Return whether *path* is the file in which this registry's store keeps the blob."""
        return keeps(self.state.store, path, digest)

    def open(self, digest: Digest, *, start: int = 0) -> BinaryIO:
        """Return a reader of the bytes from *start* on; the caller has checked the link with ``stat``.

        Raises:
            BlobMissing: the store does not have the bytes.
        """
        if digest == empty_layer().digest:
            return BytesIO(EMPTY_LAYER[start:])
        return self.state.store.open(digest, start=start)

    def require(self, blob: BlobRow) -> None:
        """Raise BlobUnknown unless the store has all bytes of the blob; derive it again if need be."""
        self.integrity.require(blob)

    def open_whole(self, blob: BlobRow, *, start: int = 0, length: int | None = None) -> BinaryIO:
        """Return a reader of the bytes from *start* on, to send them; the blob may be verified later.

        Args:
            length: As of ``BlobStore.open``.

        Raises:
            BlobUnknown: the store does not have all of them.
        """
        if blob.digest == empty_layer().digest:
            return BytesIO(EMPTY_LAYER[start:])
        reader = self.integrity.open(blob, start=start, length=length)
        self.integrity.served.append(blob.digest)
        return reader

    def has(self, *blobs: BlobRow) -> bool:
        """Return whether the store has all bytes of *blobs*, without any further effect."""
        return all(map(self.integrity.has, blobs))

    def can_be_sent(self, blob: BlobRow) -> bool:
        """Return whether the store has the blob, for a front server to send; it may be verified later."""
        if found := self.has(blob):
            self.integrity.served.append(blob.digest)
        return found

    def read_at_once(self, blob: BlobRow, *, start: int, length: int) -> bytes | None:
        """Return bytes of a blob, to send them, if they are in memory; it may be verified later.

        None: they are not, or the store does not have all of the blob.
        """
        if blob.digest == empty_layer().digest:
            return EMPTY_LAYER[start : start + length]
        data = self.state.store.read_at_once(blob.digest, blob.size, start=start, length=length)
        if data is not None:
            self.integrity.served.append(blob.digest)
        return data

    def internal_path(self, digest: Digest) -> str | None:
        """Return the path by which a front server can send the blob; None if it cannot."""
        store = self.state.store
        if digest == empty_layer().digest:
            return None  # it need not be in the store
        return store.internal_path(digest) if isinstance(store, SupportsAccelRedirect) else None

    def url(self, blob: BlobRow) -> str | None:
        """Return a URL that gives out the blob to anyone, for some minutes; None if the store has none.

        Raises:
            BlobUnknown: the store does not have all of its bytes.
        """
        store = self.state.store
        if blob.digest == empty_layer().digest or not isinstance(store, SupportsRedirect):
            return None
        self.require(blob)
        self.integrity.served.append(blob.digest)
        return store.url(blob.digest)

    def mount(
        self,
        repository: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        *,
        reach: Reach = EVERYWHERE,
    ) -> bool:
        """Link a blob of *source* (None: of any repository) to *repository*; return whether it was found.

        One whose bytes are lost counts as not found, so that the client sends them.

        Args:
            reach: Which repositories the client may read. Blobs of others count as not found: the answer must
                not reveal what they hold.

        Source: OCI distribution-spec v1.1, "Mounting a blob from another repository".
        """
        with self.state.catalog.read() as tx:
            owner = source or tx.blobs.owner(digest, reach)
            blob = tx.blobs.find(owner, digest) if owner and reach.covers(owner) else None
        if owner is None or blob is None or not self.integrity.holds(blob):
            return False
        with self.state.arriving(repository, (None, blob)) as arriving, self.state.begin() as tx:
            target = tx.repositories.ensure(repository)
            holder = tx.repositories.find(owner)
            if holder is None or not tx.blobs.lock(holder.id, digest):
                return False  # deleted meanwhile
            arriving.admit(tx, target)
        return True

    def share(self, repository: RepositoryName, *blobs: BlobRow) -> None:
        """Link *blobs* that the store already has to the repository, which is created if it is new.

        Raises:
            BlobDamaged: the catalog knows one of the blobs with another size.
        """
        for batch in batches(blobs, STEP):
            stored = ((None, blob) for blob in batch)
            with self.state.arriving(repository, *stored) as arriving, self.state.begin() as tx:
                arriving.admit(tx, tx.repositories.ensure(repository))

    def delete(self, repository: RepositoryName, digest: Digest) -> None:
        """Unlink the blob from the repository; its bytes go when no repository has used them for a while.

        Raises:
            BlobUnknown, BlobInUse.
        """
        with self.state.begin() as tx:
            row = tx.repositories.lock(repository)
            if row is None or not tx.blobs.lock(row.id, digest):
                raise BlobUnknown(digest=str(digest))
            if not tx.blobs.unlink(row.id, digest):
                referrers = tx.blobs.referrers(row.id, digest)
                manifests = [each for each in referrers if ":" in each]
                tags = tx.tags.leading_to(row.id, manifests)
                raise BlobInUse(digest=str(digest), referrers=referrers, tags=tags)
            uncount_links(self.state.policies, tx, row, [digest])
            self.state.links.remove_blobs(repository, digest)

    def release(self, repository: RepositoryName, digest: Digest, *, delete_bytes: bool = True) -> bool:
        """Unlink a blob that nothing in the repository names; return whether it is now gone altogether.

        A blob that no other repository has is forgotten, and its bytes deleted unless *delete_bytes* is off.
        That is after the links are durably gone, so that no power cut leaves one without bytes; and unless
        the blob was pushed again meanwhile.
        """
        with self.state.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=True)
            if row is None:
                return False
            for unlinked in tx.blobs.unlink(row.id, digest):
                uncount_links(self.state.policies, tx, row, [unlinked])
                self.state.links.remove_blobs(repository, unlinked)
            before, kept_since = tx.now, tx.now - self.state.retention.undelete
        with self.state.deleting() as (tx, remove):
            free = tx.garbage.lock_condemned([digest], before, kept_since=kept_since)
            gone = bool(tx.blobs.release(*free))
            if gone and delete_bytes:
                remove(digest)
        return gone

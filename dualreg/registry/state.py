"""State: catalog, store, link files and upstream, and the one way in which verified bytes enter them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.catalog.views import V1
from dualreg.errors import BlobDamaged, QuotaExceeded, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.layer import empty_layer
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.counting import count_links
from dualreg.registry.policies import Policies
from dualreg.registry.upstream import NoUpstream, Upstream
from dualreg.storage import Store
from dualreg.storage.link_tree import FolderLinks, LinkFile, StagedLink
from dualreg.storage.links import Links, staged_blob

#: How many files a transaction writes where there may be thousands, so that it takes milliseconds.
STEP = 16
#: A transaction that began longer ago is durable, or has failed.
_RECENT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is not used is kept.

    Attributes:
        grace: For how long an unused blob stays after it was last used or asked for. An answer that content
            is present holds for half of it at least.
        untagged: How long manifests stay that nothing leads to; None: forever.
        history: How long it stays known what tags pointed at; None: forever.
        undelete: For how long what was deleted can be restored.
    """

    grace: timedelta = timedelta(hours=24)
    untagged: timedelta | None = None
    history: timedelta | None = None
    undelete: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class State:
    """What a registry keeps its content in; all services of a registry share one.

    Attributes:
        upstream: Where content is loaded from that this registry does not have.
        retention: How long garbage stays.
        policies: What operators forbid.
    """

    catalog: Catalog
    store: Store
    links: Links
    upstream: Upstream = field(default_factory=NoUpstream)
    retention: Retention = Retention()
    policies: Policies = field(default_factory=Policies)

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Open a transaction of the catalog; if it fails, its changes of link files are undone.

        They stay if the commit may have succeeded. If the block refuses a request because of what it has
        read, that is durable before the error goes on.
        """
        try:
            with self.links.noted() as undo, self.catalog.begin(undo=undo) as tx:
                yield tx
        except RegistryError:  # for example, the repetition of a deletion that still waits for the disk
            self.catalog.settle()
            raise

    @contextmanager
    def deleting(self) -> Iterator[tuple[Transaction, Callable[[Digest], None]]]:
        """Open a transaction as ``begin``, and yield with it what removes the bytes of a blob.

        The block has locked the rows of such blobs, so that a push of the same bytes waits. Those locks are
        lost with the connection, which a process that was stopped for long finds out late: then the push may
        have relied on the bytes. So the commit decides. They are deleted after it, and are back if it fails.
        A store that cannot keep them until then is asked to delete them right after the database has said
        that the locks are held.
        """
        removed = dict[Digest, UploadId]()
        try:
            with self.begin() as tx:

                def remove(digest: Digest) -> None:
                    tx.confirm()
                    removed[digest] = UploadId.new()
                    self.store.remove(digest, removed[digest])

                yield tx, remove
        except BaseException:
            for digest, aside in removed.items():
                self.store.restore(aside, digest)
            raise
        for aside in removed.values():
            self.store.discard(aside)

    def promise(self, repository: RepositoryName, digest: Digest) -> BlobRow | None:
        """Return the blob if the repository may read it; a client that hears so need not send it.

        An unused one stays for half the grace from now on at least. That is written before this returns, but
        once in half the grace at most; for used ones, nothing is.
        """
        with self.catalog.read() as tx:
            found = tx.blobs.find_noted(repository, digest, since=tx.now - self.retention.grace / 2)
        if found and not self.is_promised(found.noted_at):
            return self.renew(repository, digest)
        if found and found.noted_at and abs(self.catalog.now() - found.noted_at) < _RECENT:
            self.catalog.settle()  # another request may have promised it, and still wait for the disk
        return found

    def is_promised(self, at: datetime | None) -> bool:
        """Return whether a promise made *at* a time holds for half the grace from now on; None: always."""
        until = self.promised_until(at)
        return until is None or until > self.catalog.now()

    def promised_until(self, at: datetime | None) -> datetime | None:
        """Return when a promise made *at* a time is to be renewed, if a client asks again; None: never."""
        return None if at is None else at + self.retention.grace / 2

    def renew(self, repository: RepositoryName, digest: Digest) -> BlobRow | None:
        """Promise that the blob, and a V1 image whose JSON it is, stay from now on; return it as ``promise``.

        What was promised less than half a grace ago stays as it is.
        """
        with self.catalog.begin() as tx:
            tx.garbage.renew(repository, digest, tx.now - self.retention.grace / 2)
            return tx.blobs.find(repository, digest)

    @contextmanager
    def trial(self) -> Iterator[Self]:
        """Yield a state for the block in which catalog changes are seen, and rolled back at its end.

        It writes no link files. Its store is the real one: the block must neither publish nor delete bytes.
        """
        with self.catalog.trial() as catalog:
            yield replace(self.without_links(), catalog=catalog)

    def without_links(self) -> Self:
        """Return this state with link files left as they are."""
        return replace(self, links=Links(_NoLinkTree()))

    @contextmanager
    def staged(self, *documents: bytes) -> Iterator[tuple[UploadId, ...]]:
        """Stage small documents for the block; those that it does not ``admit`` are discarded at its end."""
        uploads = tuple(UploadId.new() for _ in documents)
        try:
            for upload, document in zip(uploads, documents, strict=True):
                self.store.stage(upload, document)
            yield uploads
        finally:
            for upload in uploads:
                self.store.discard(upload)

    @contextmanager
    def arriving(
        self,
        repository: RepositoryName,
        *blobs: tuple[UploadId | None, BlobRow],
        also: Sequence[StagedLink] = (),
        early: bool = True,
        counts: bool = True,
    ) -> Iterator["Arriving"]:
        """Prepare for the block that staged uploads are admitted, each as its blob; others are shared.

        The caller has verified the bytes. They are durable under their digests before the transaction begins,
        and their link files are staged, so that the transaction waits for the disk once. Bytes that are not
        admitted then have no row, and cost nothing but space.

        Args:
            also: Other link files, to be staged with theirs.
            early: Whether bytes may be published before it is known that they are admitted.
            counts: Whether they count for quotas.
        """
        given = [(upload, blob) for upload, blob in blobs if upload] if early else []
        waits = [self.store.prepare(upload, blob.digest) for upload, blob in given]
        digests = dict.fromkeys(blob.digest for _, blob in blobs)
        files = [staged_blob(repository, digest, self.catalog.now()) for digest in digests]
        files += also
        try:
            with self.links.staged(files, waits):
                yield Arriving(self, blobs, files, counts=counts)
        except QuotaExceeded:
            self.withdraw({blob.digest: blob.size for _, blob in given})
            raise

    def withdraw(self, published: Mapping[Digest, int]) -> None:
        """Delete the bytes of blobs that were published and that the catalog does not know."""
        if not published:
            return
        with self.deleting() as (tx, remove):
            known = tx.blobs.sizes(published)
            fresh = {digest: size for digest, size in published.items() if digest not in known}
            tx.blobs.record_all(fresh)  # and lock them
            self.catalog.settle_locked()  # a power cut must not bring back a row of one of them
            for digest in tx.blobs.release(*fresh):
                remove(digest)

    def store_documents(
        self, repository: RepositoryRow, documents: Iterable[bytes], *, again: bool = False
    ) -> frozenset[Digest]:
        """Store small documents as blobs of the repository, if it exists: a few in each transaction.

        Args:
            again: Only those that it has. If one of a few is unlinked meanwhile, none of them is stored.

        Returns:
            Which were stored.
        """
        stored, made = set[Digest](), {Digest.of(document): document for document in documents}
        if again:
            with self.catalog.read() as tx:
                known = tx.blobs.known(repository.name, made.keys())
            made = {digest: made[digest] for digest, (_, is_own) in known.items() if is_own}
        for batch in batches(made, STEP):
            blobs = [BlobRow(digest, len(made[digest])) for digest in batch]
            with (
                self.staged(*map(made.__getitem__, batch)) as uploads,
                self.arriving(repository.name, *zip(uploads, blobs, strict=True), counts=False) as arriving,
                self.begin() as tx,
            ):
                is_there = tx.repositories.lock(repository.name) == repository
                if is_there and (not again or len(tx.blobs.hold(repository.id, *batch)) == len(batch)):
                    arriving.admit(tx, repository)
                    stored.update(batch)
        return frozenset(stored)

    def record_view(
        self, tx: Transaction, repository: RepositoryRow, manifest: Digest, view: str | None, kind: str = V1
    ) -> None:
        """Record what clients see the manifest as, within a transaction; None: there cannot be a view.

        Link files do not say the latter: it is found out again.
        """
        tx.views.record(repository.id, manifest, view, kind=kind)
        self.links.record_view(repository.name, manifest, kind, view)


@dataclass(frozen=True, slots=True)
class Arriving:
    """Blobs that are about to be admitted to a repository; those without an upload are shared.

    Attributes:
        files: Their link files, and others, which are staged.
        counts: Whether they count for quotas.
    """

    state: State
    blobs: Sequence[tuple[UploadId | None, BlobRow]]
    files: Sequence[StagedLink]
    counts: bool = True

    def admit(self, tx: Transaction, repository: RepositoryRow) -> None:
        """Publish each as its blob, and link that to the repository.

        They are locked by digest, as by all who lock several, so that transactions do not wait in a circle.

        Raises:
            BlobDamaged: the catalog or the store has one with another size, or it was deleted meanwhile.
            QuotaExceeded: they do not fit.
        """
        self.record(tx, repository)
        self.state.links.place(self.files)

    def record(
        self, tx: Transaction, repository: RepositoryRow, left: Collection[Digest] = ()
    ) -> Sequence[str]:
        """Do the same, but leave it to the caller to place the link files, with others.

        Return what to warn the client of.

        Args:
            left: Blobs to be noted as candidates of the garbage collection, in the same order.
        """
        arriving = {blob.digest: (upload, blob) for upload, blob in self.blobs}
        for digest in sorted({*arriving, *left}, key=str):
            if digest not in arriving:
                tx.garbage.note(repository.id, digest)
                continue
            upload, blob = arriving[digest]
            if upload:
                self._publish(tx, repository, upload, blob)
            else:
                self._share(tx, repository, blob)
        blobs = [blob for _, blob in self.blobs]
        return count_links(self.state.policies, tx, repository, blobs) if self.counts else ()

    def _publish(self, tx: Transaction, repository: RepositoryRow, upload: UploadId, blob: BlobRow) -> None:
        """Publish the staged *upload* as *blob*, and link that to the repository.

        The caller has verified the bytes. ``BlobQueries.admit`` locks the blob's row, so that nothing else
        changes the same blob meanwhile. Publishing is a rename, so the transaction stays short. It replaces
        stored bytes, and what the catalog has of them, so that damage is repaired.
        """
        tx.blobs.admit(blob.digest, blob.size)
        self.state.store.publish(upload, blob.digest)
        tx.blobs.link(repository.id, blob.digest)

    def _share(self, tx: Transaction, repository: RepositoryRow, blob: BlobRow) -> None:
        """Link a *blob* that the store has to the repository.

        Raises:
            BlobDamaged: the catalog or the store has it with another size, or it was deleted meanwhile.
        """
        recorded = tx.blobs.record(blob.digest, blob.size)
        if recorded != blob.size:
            raise BlobDamaged(f"{blob.digest}: {recorded} bytes recorded, {blob.size} found")
        stored = self.state.store.stat(blob.digest)
        if (stored is None or stored.size != blob.size) and blob.digest != empty_layer().digest:
            raise BlobDamaged(f"{blob.digest}: {stored.size if stored else 0} of {blob.size} bytes stored")
        tx.blobs.link(repository.id, blob.digest)


class _NoLinkTree:
    """A LinkTree that keeps nothing."""

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None: ...
    def read_link(self, path: str) -> LinkFile | None: ...
    def read_links(self, paths: Sequence[str]) -> Sequence[LinkFile | None]:
        return [None for _ in paths]

    def list_links(self, folder: str) -> Sequence[str]:
        del folder
        return ()

    def remove_link(self, *paths: str) -> None: ...
    def quarantine_link(self, path: str) -> None: ...
    def stage_links(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> None:
        del links
        for wait in waits:
            wait()

    def place_links(self, links: Sequence[StagedLink]) -> None: ...
    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None: ...
    def bring_back(self, aside: UploadId, *folders: FolderLinks) -> None: ...
    def drop(self, aside: UploadId) -> None: ...
    def link_paths(self) -> Iterator[str]:
        return iter(())

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        return iter(())

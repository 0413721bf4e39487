"""The check: the rows of the catalog compared with the store, and the files of the store with the catalog."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Event

from dualreg.catalog.checks import Stale
from dualreg.catalog.database import Catalog
from dualreg.catalog.linking import LinkedManifest
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.errors import BlobMissing, ManifestInvalid
from dualreg.image.digest import Digest
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName
from dualreg.maintenance.fsck.documents import Documents
from dualreg.maintenance.fsck.findings import Finding, Kind, hurt_clients
from dualreg.maintenance.fsck.links import LinkCheck
from dualreg.maintenance.fsck.repair import Repair
from dualreg.registry.integrity import Integrity
from dualreg.registry.quotas import differences
from dualreg.storage import Store
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.names import Names

#: Files that the catalog does not list are left alone for this long: they may be about to be listed.
GRACE = timedelta(hours=1)
#: Verified blobs that are recorded at a time.
_RECORDED = 64


@dataclass
class Budget:
    """How much may be read: bytes, seconds, and bytes in a second; None: any."""

    size: int | None = None
    seconds: float | None = None
    rate: int | None = None
    read: int = 0
    began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Note that reading begins now."""
        self.began = time.monotonic()

    def is_spent(self) -> bool:
        """Return whether no more may be read."""
        late = self.seconds is not None and time.monotonic() - self.began >= self.seconds
        return late or (self.size is not None and self.read >= self.size)

    def spend(self, count: int) -> None:
        """Note that *count* bytes were read, and wait if that was too fast."""
        self.read += count
        if self.rate:
            time.sleep(max(0.0, self.began + self.read / self.rate - time.monotonic()))


@dataclass
class Check:
    """Finds damage, and repairs it if it is told to.

    Attributes:
        repositories: Only what these hold is checked; empty: everything.
        read: Whether the bytes of all blobs are read.
        repair: What repairs findings; None: they are only named.
        advance: Called with the number of blobs and bytes that are done since the last call.
        stop: Set from outside to stop between two blobs.
        unread: How many blobs are still to be read after ``run``, because the budget is spent.
    """

    catalog: Catalog
    store: Store
    integrity: Integrity
    repositories: Sequence[RepositoryName] = ()
    read: bool = False
    budget: Budget = field(default_factory=Budget)
    repair: Repair | None = None
    advance: Callable[[int, int], None] = lambda *_: None
    stop: Event = field(default_factory=Event)
    unread: int = 0
    documents: Documents = field(init=False)

    def __post_init__(self) -> None:
        self.documents = Documents(self.store)

    def run(self) -> Iterator[tuple[Finding, bool]]:
        """Yield what is damaged, and whether it was repaired."""
        named = set[Digest | None]()
        for finding in self._files():
            named.add(finding.digest)
            yield self._repaired(finding)
        for name in self._names():
            yield from self._repository(name)
        if not self.repositories:
            yield from self._quotas()
            yield from ((each, False) for each in self._orphans())
            yield from self._unlisted_repositories()
        if self.read:
            for finding in self.contents(self.catalog.now()):
                if finding.digest not in named:
                    yield self._repaired(finding)

    def contents(self, before: datetime) -> Iterator[Finding]:
        """Read blobs that were last verified before an instant, the oldest first; yield the damaged ones.

        It ends when the budget is spent. Those that are sound are recorded as verified, so that a later check
        goes on with the others. What is known to be damaged comes last: else it would use up every budget.
        """
        self.budget.begin()
        for damaged in (False, True):
            stale = Stale(before, self.repositories, damaged)
            place: tuple[datetime, Digest] | None = None
            while page := self._page(stale, place):
                sound = list[Digest]()
                for at, blob in page:
                    if self._is_over():
                        break
                    place = (at, blob.digest)
                    if finding := self._content(blob):
                        yield finding
                    else:
                        sound.append(blob.digest)
                    if len(sound) >= _RECORDED:
                        self._record(sound)
                self._record(sound)

    def _page(
        self, stale: Stale, place: tuple[datetime, Digest] | None
    ) -> Sequence[tuple[datetime, BlobRow]]:
        """Return some blobs to be read; none if the check is over. What the budget leaves is counted."""
        if self.stop.is_set():
            return ()
        with self.catalog.read() as tx:
            if not self.budget.is_spent():
                return tx.checks.stalest(stale, place)
            self.unread += tx.checks.total(stale, place)
        return ()

    def _is_over(self) -> bool:
        return self.stop.is_set() or self.budget.is_spent()

    def _record(self, sound: list[Digest]) -> None:
        if sound:
            with self.catalog.begin() as tx:
                tx.blobs.mark_verified(sound)
            sound.clear()

    def _content(self, blob: BlobRow) -> Finding | None:
        """Return what reading a blob shows to be wrong."""

        def pace(count: int) -> None:
            self.budget.spend(count)
            self.advance(0, count)

        try:
            sound = self.integrity.verify(blob.digest, pace=pace, only_look=True)
        except BlobMissing:  # it was set aside since the look at the files, as what is found in use is
            return self._file(blob.digest)
        except StoreUnavailable:
            raise
        except OSError as error:
            return self._hurting(Kind.UNREADABLE, blob.digest, f"it cannot be read ({error.strerror})")
        finally:
            self.advance(1, 0)
        if sound:
            return None
        with self.catalog.begin() as tx:
            tx.blobs.mark_damaged(blob.digest)
        return self._hurting(Kind.CORRUPT, blob.digest, "its bytes have another digest")

    def _names(self) -> Iterator[RepositoryName]:
        if self.repositories:
            yield from self.repositories
            return
        last = RepositoryName("")
        while True:
            with self.catalog.read() as tx:
                names = [name for name, _ in tx.repositories.walk(last=last, limit=100)]
            if not names:
                return
            yield from names
            last = names[-1]

    def _files(self) -> Iterator[Finding]:
        """Yield blobs whose files are missing, or have another size."""
        after: Digest | None = None
        while not self.stop.is_set():
            with self.catalog.read() as tx:
                page = tx.checks.blobs(after, self.repositories)
            if not page:
                return
            for blob in page:
                if not self.integrity.has(blob) and (finding := self._file(blob.digest)):
                    yield finding
            after = page[-1].digest

    def _file(self, digest: Digest) -> Finding | None:
        """Return what is wrong with the file of a blob while nothing can change it."""
        with self.catalog.begin() as tx:
            size, found = tx.checks.lock(digest), self.store.stat(digest)
        if size is None or (found and found.size == size):
            return None
        if found is None:
            return self._hurting(Kind.LOST, digest, "its file is missing")
        return self._hurting(Kind.SIZE, digest, f"its file has {found.size} bytes, expected {size}")

    def _hurting(self, kind: Kind, digest: Digest, text: str) -> Finding:
        """Return damage of a blob, with what it hurts."""
        with self.catalog.read() as tx:
            users = tx.checks.users(digest)
        hurt = (tuple(users.repositories), tuple(users.tags), hurt_clients(users))
        return Finding(kind, str(digest), text, digest, None, *hurt)

    def _repository(self, name: RepositoryName) -> Iterator[tuple[Finding, bool]]:
        """Yield what is wrong with the link files, manifests, views and V1 images of a repository."""
        with self.catalog.read() as tx:
            row = tx.repositories.find(name)
        if row:
            yield from self._rows(row)
        links = self._links()
        yield from links.missing(name)
        yield from links.stray(name)

    def _rows(self, row: RepositoryRow) -> Iterator[tuple[Finding, bool]]:
        """Yield what is wrong with the rows of a repository, after which link files are repaired."""
        for finding in self._documents(row):
            yield self._repaired(finding)
        with self.catalog.read() as tx:
            views, orphans = tx.checks.lost_views(row.id), tx.checks.orphans(row.id)
        for manifest, kind, view in views:
            text = f"what it is seen as is missing: {view}"
            yield self._repaired(self._in(row, Kind.VIEW, manifest, text, detail=kind))
        for image, parent in orphans:
            where, text = f"{row.name} image {image}", f"its parent is missing: {parent}"
            yield Finding(Kind.PARENT, where, text, repositories=(row.name,), clients=("V1",)), False

    def _documents(self, row: RepositoryRow) -> Iterator[Finding]:
        """Yield manifests that differ from what the catalog has of them."""
        after: Digest | None = None
        while not self.stop.is_set():
            with self.catalog.read() as tx:
                page = tx.linking.manifests(row.id, after)
                listed = tx.checks.children(row.id, [each.digest for each in page])
            if not page:
                return
            for each in page:
                yield from self._document(row, each, listed[each.digest])
            after = page[-1].digest

    def _document(
        self, row: RepositoryRow, linked: LinkedManifest, listed: dict[Digest, str | None]
    ) -> Iterator[Finding]:
        payload = self.documents.payload(linked.digest)
        if payload is None:
            return  # which the look at the files, or at contents, finds
        try:
            manifest = self.documents.parse(linked.digest, linked.media_type, payload)
        except ManifestInvalid as error:
            if Digest.of(payload, linked.digest.algorithm) == linked.digest:
                yield self._in(row, Kind.MEDIA_TYPE, linked.digest, str(error))
            else:
                yield from self._corrupt(linked.digest, len(payload))
            return
        if (said := manifest.declared or linked.media_type) != linked.media_type:
            text = f"the catalog has {linked.media_type}, but the document {said}"
            yield self._in(row, Kind.MEDIA_TYPE, linked.digest, text, detail=said)
        yield from self._children(row, manifest, listed)

    def _corrupt(self, manifest: Digest, length: int) -> Iterator[Finding]:
        """Yield that a manifest has another digest, unless another look finds that, or its size is wrong."""
        with self.catalog.read() as tx:
            size = tx.blobs.sizes([manifest]).get(manifest)
        if not self.read and size == length:
            yield self._hurting(Kind.CORRUPT, manifest, "its bytes have another digest")

    def _links(self) -> LinkCheck:
        """Return what compares link files."""
        return LinkCheck(self.catalog, self.store, self.documents, repair=self.repair is not None)

    def _children(
        self, row: RepositoryRow, manifest: Manifest, listed: dict[Digest, str | None]
    ) -> Iterator[Finding]:
        """Yield what a manifest names, and the repository does not have, or the catalog does not list."""
        named = {child.descriptor.digest for child in manifest.children} - listed.keys()
        if not named:
            return
        with self.catalog.read() as tx:
            held = tx.blobs.linked(row.id, named).keys()
            known = tx.manifests.find(row.name, manifest.digest)
        required = {child.descriptor.digest for child in manifest.required} - {empty_layer().digest}
        if known is None:
            return  # deleted meanwhile
        for digest in sorted((named & required) - held):
            finding = self._in(
                row, Kind.CHILD, manifest.digest, f"it names {digest}, which the repository does not have"
            )
            yield replace(finding, detail=str(digest))
        if unlisted := sorted(named & held):
            text = f"the catalog does not list {', '.join(map(str, unlisted))} as part of it"
            yield self._in(row, Kind.UNLISTED, manifest.digest, text)

    def _in(
        self, row: RepositoryRow, kind: Kind, manifest: Digest, text: str, *, detail: str = ""
    ) -> Finding:
        """Return damage of a manifest in one repository, with the tags there that it hurts."""
        with self.catalog.read() as tx:
            tags = tx.tags.leading_to(row.id, [str(manifest)])
            clients = hurt_clients(tx.checks.users(manifest))
        hurt = tuple(f"{row.name}:{tag}" for tag in sorted(tags))
        return Finding(
            kind, f"{row.name}@{manifest}", text, manifest, row.name, (row.name,), hurt, clients, detail
        )

    def _orphans(self) -> Iterator[Finding]:
        """Yield files that the catalog does not list."""
        before, batch = self.catalog.now() - GRACE, list[Digest]()
        for found in self.store.walk():
            if found.modified_at < before:
                batch.append(found.digest)
            if len(batch) >= _RECORDED:
                yield from self._unlisted(batch)
        yield from self._unlisted(batch)

    def _unlisted_repositories(self) -> Iterator[tuple[Finding, bool]]:
        """Yield link files of repositories that the catalog does not list, and whether each was set aside."""
        links = self._links()
        for name in Names(self.store).repositories():
            if not isinstance(name, RepositoryName):
                yield Finding(Kind.STRAY_LINK, name.path, name.reason), False
                continue
            with self.catalog.read() as tx:
                known = tx.repositories.find(name)
            if known is None:
                yield from links.stray(name)

    def _quotas(self) -> Iterator[tuple[Finding, bool]]:
        """Yield quotas of which something else is recorded to be used than what counts."""
        for quota, found in differences(self.catalog):
            text = f"{quota.used} bytes are recorded to be used, and {found} are"
            is_repaired = self.repair is not None and self.repair.count(quota.pattern)
            yield Finding(Kind.QUOTA, quota.pattern, text), is_repaired

    def _unlisted(self, batch: list[Digest]) -> Iterator[Finding]:
        with self.catalog.read() as tx:
            listed = tx.blobs.sizes(batch)
        for digest in batch:
            unknown = digest not in listed and digest != empty_layer().digest
            if unknown and self.store.stat(digest):  # and not collected meanwhile
                yield Finding(Kind.ORPHAN, str(digest), "the catalog does not list it", digest)
        batch.clear()

    def _repaired(self, finding: Finding) -> tuple[Finding, bool]:
        return finding, self.repair is not None and self.repair.apply(finding)

"""Export: what this registry keeps, on its way out; blobs first, then manifests, tags last."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from dualreg.catalog.rows import ManifestRow, Origin
from dualreg.errors import RegistryError
from dualreg.faults import BlobMissing
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.choice import Names
from dualreg.migrate.findings import Broken
from dualreg.migrate.intake import Locks, Stopped
from dualreg.migrate.plan import Action, Entry
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, Target
from dualreg.migrate.wire import WireError
from dualreg.registry import Registry
from dualreg.registry.editions import Reader
from dualreg.storage.base import Adopt

_PAGE = 1000


def leaving(registry: Registry, names: Names) -> Iterator[Entry]:
    """Yield every tag that is chosen, whoever is shown it."""
    last = ""
    while True:
        page = registry.repositories.list(last=last, limit=_PAGE)
        for name in page.rows:
            with registry.state.catalog.read() as tx:
                rows = tx.tags.list(name, last="", limit=None, origins=frozenset(Origin)) or ()
            for tag in rows:
                if names.choose(name, f"{name}:{tag}"):
                    yield Entry(name, tag, "", name, tag, Action.IMPORT)
        if not page.more:
            return
        last = page.passed or page.rows[-1]


@dataclass
class Export:
    """Brings tags to a target.

    Attributes:
        stop: Set from outside to end early; whatever is begun is finished first.
        told: Called with each outcome.
    """

    registry: Registry
    target: Target
    stop: Event = field(default_factory=Event)
    told: Callable[[Outcome], None] = lambda _: None
    _done: set[tuple[RepositoryName, Digest]] = field(default_factory=set)
    _locks: Locks = field(default_factory=Locks)

    def all(self, entries: Iterable[Entry], jobs: int) -> Sequence[Outcome]:
        """Bring *entries*, *jobs* at a time; the outcomes are in their order."""
        with ThreadPoolExecutor(jobs) as pool:
            outcomes = [*pool.map(self._one, entries)]
        self.target.finish()
        return outcomes

    def _one(self, entry: Entry) -> Outcome:
        try:
            outcome = self._leave(entry)
        except Stopped:
            outcome = Outcome(entry, Status.STOPPED, "run again to go on")
        except (Broken, WireError) as error:
            outcome = Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobMissing) as error:
            outcome = Outcome(entry, Status.FAILED, f"not whole here: {error}")
        except BaseException:
            self.stop.set()  # such as a full disk, which would stop all others too
            raise
        self.told(outcome)
        return outcome

    def _leave(self, entry: Entry) -> Outcome:
        repository, tag = RepositoryName(entry.repository), Tag(entry.tag)
        row = self._row(repository, tag)
        sent = self._parts(repository, row)
        changed = self._send(repository, row, tag)
        status = Status.DONE if sent or changed else Status.SAME
        return Outcome(entry, status, digest=str(row.digest), read=sent)

    def _row(self, repository: RepositoryName, tag: Tag) -> ManifestRow:
        """Return what leaves as the tag: what it points at, or schema 1 made newer where that must be."""
        with self.registry.state.catalog.read() as tx:
            row = tx.manifests.find(repository, tag)
        if row is None:
            return self.registry.manifests.find(repository, tag)  # which says what is missing
        if row.media_type in media_types.SCHEMA1_TYPES and not self.target.takes_schema1:
            reader = Reader(frozenset({media_types.DOCKER_MANIFEST}))
            newer = self.registry.editions.find(repository, tag, reader).digest
            row = self.registry.manifests.find(repository, newer)
        return row

    def _parts(self, repository: RepositoryName, row: ManifestRow) -> int:
        """Bring all that a manifest names, and what is about it; return how many bytes were sent."""
        sent = 0
        for child in stored_contents(row.media_type, self.registry.manifests.payload(row)).children:
            if self.stop.is_set():
                raise Stopped
            if child.role is Role.MANIFEST:
                sent += self._untagged(repository, child.descriptor.digest)
            elif child.role is not Role.SIGNED:
                sent += self._blob(repository, child.descriptor.digest, child.descriptor.media_type)
        for referrer in self._referrers(repository, row.digest):
            sent += self._untagged(repository, referrer)
        return sent

    def _referrers(self, repository: RepositoryName, digest: Digest) -> Iterator[Digest]:
        after = None
        while True:
            page = self.registry.referrers.list(repository, digest, after=after)
            for row in page.rows:
                yield row.digest
                after = (row.pushed_at, row.digest)
            if not page.more:
                return

    def _untagged(self, repository: RepositoryName, digest: Digest) -> int:
        with self._locks.of((repository, digest)):
            if (repository, digest) in self._done:
                return 0
            self._done.add((repository, digest))
            with self.registry.state.catalog.read() as tx:
                row = tx.manifests.find(repository, digest)
            if row is None:
                return 0  # of a sparse index
            sent = self._parts(repository, row)
            self._send(repository, row)
            return sent

    def _send(self, repository: RepositoryName, row: ManifestRow, *tags: Tag) -> bool:
        signed = self.registry.manifests.signed(row)
        outgoing = Outgoing(
            repository,
            row.media_type,
            self.registry.manifests.payload(row),
            row.digest,
            self.registry.manifests.payloads.read(signed.digest) if signed else None,
        )
        return self.target.manifest(outgoing, tags)

    def _blob(self, repository: RepositoryName, digest: Digest, media_type: str) -> int:
        with self._locks.of(digest):
            if (repository, digest) in self._done:
                return 0
            try:
                size = self.registry.blobs.stat(repository, digest).size
            except RegistryError:
                if media_types.is_distributable(media_type):
                    raise
                return 0  # it stays with its vendor
            sent = self.target.blob(repository, digest, self._bytes(digest, size))
            self._done.add((repository, digest))
            return sent

    def _bytes(self, digest: Digest, size: int) -> SourceBytes:
        store = self.registry.state.store
        path = store.path(digest) if isinstance(store, Adopt) and digest != empty_layer().digest else None
        return SourceBytes(size, partial(self.registry.blobs.open, digest), path)

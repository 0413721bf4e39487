"""Export: what this registry keeps, on its way out; blobs first, then manifests, tags last."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import Stopped
from dualreg.migrate.findings import Broken
from dualreg.migrate.graph import ManifestGraph, about, document, read_document
from dualreg.migrate.names import Names
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, Target
from dualreg.migrate.transfer import is_output_error
from dualreg.registry import Registry
from dualreg.registry.negotiation import Accept
from dualreg.remote.endpoint import RemoteError

_PAGE = 1000


def leaving(registry: Registry, names: Names) -> Iterator[Entry]:
    """Yield every tag that is chosen, whoever is shown it, and those by which something is about one."""
    last = ""
    while True:
        page = registry.repositories.list(last=last, limit=_PAGE)
        for name in page.rows:
            tags = registry.tags.list_all(name)
            chosen = {tag for tag in tags if names.choose(name, f"{name}:{tag}")}
            others = {tag for tag in tags if names.allow(name, f"{name}:{tag}")} - chosen
            for tag in sorted(chosen | about(registry, name, chosen, others)):
                yield Entry(name, tag, "", name, tag, PlanAction.IMPORT)
        if not page.more:
            return
        last = page.end


@dataclass
class Export:
    """Brings tags to a target.

    Attributes:
        stop: Set from outside to end early; whatever is begun is finished first.
        on_outcome: Called with each outcome.
    """

    registry: Registry
    target: Target
    stop: Event = field(default_factory=Event)
    on_outcome: Callable[[Outcome], None] = lambda _: None
    _done: set[tuple[RepositoryName, Digest]] = field(default_factory=set)
    _locks: KeyedLocks = field(default_factory=KeyedLocks)

    def export_all(self, entries: Iterable[Entry], jobs: int) -> Sequence[Outcome]:
        """Bring *entries*, *jobs* at a time if the target takes so many; the outcomes are in order."""
        with ThreadPoolExecutor(1 if self.target.one_by_one else jobs) as pool:
            outcomes = [*pool.map(self._one, entries)]
        self.target.finish()
        return outcomes

    def _one(self, entry: Entry) -> Outcome:
        try:
            outcome = self._leave(entry)
        except Stopped:
            outcome = Outcome(entry, Status.STOPPED, "run again to go on")
        except (Broken, RemoteError) as error:
            outcome = Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobDamaged, BlobMissing) as error:
            outcome = Outcome(entry, Status.FAILED, f"not whole here: {error}")
        except OSError as error:
            if is_output_error(error):
                self.stop.set()  # it would stop all others too
                raise
            outcome = Outcome(entry, Status.FAILED, f"it cannot be read here, or written there: {error}")
        except BaseException:
            self.stop.set()
            raise
        self.on_outcome(outcome)
        return outcome

    def _leave(self, entry: Entry) -> Outcome:
        if self.stop.is_set():
            raise Stopped
        repository, tag = RepositoryName(entry.repository), Tag(entry.tag)
        top = self._row(repository, tag)
        order = ManifestGraph(self.registry, self.target.renames).of(repository, top)
        # A tag comes last: after what is about its manifest, which in turn comes after that.
        before = order[:-1] if order[-1].digest == top.digest else order
        parts = [self._untagged(repository, row) for row in before]
        sent = sum(part for part, _ in parts) + self._blobs(repository, top)
        changed = self._send(repository, top, tag) or any(new for _, new in parts)
        status = Status.DONE if sent or changed else Status.SAME
        return Outcome(entry, status, digest=str(top.digest), read=sent)

    def _row(self, repository: RepositoryName, tag: Tag) -> ManifestRow:
        """Return what leaves as the tag: what it points at, or schema 1 made newer where that must be."""
        row = self.registry.manifests.peek(repository, tag)
        if row is None:
            return self.registry.manifests.find(repository, tag)  # which says what is missing
        if row.media_type in media_types.SCHEMA1_TYPES and not self.target.takes_schema1:
            accept = Accept(frozenset({media_types.DOCKER_MANIFEST}))
            newer = self.registry.negotiation.find(repository, tag, accept).digest
            row = self.registry.manifests.find(repository, newer)
        return row

    def _untagged(self, repository: RepositoryName, row: ManifestRow) -> tuple[int, bool]:
        """Bring a manifest, once; return how many bytes of blobs were sent, and whether it was new there."""
        if (repository, row.digest) in self._done:
            return 0, False
        sent = self._blobs(repository, row)
        with self._locks.lock((repository, row.digest)):
            new = (repository, row.digest) not in self._done and self._send(repository, row)
            self._done.add((repository, row.digest))
        return sent, new

    def _blobs(self, repository: RepositoryName, row: ManifestRow) -> int:
        """Bring the blobs that a manifest names; return how many bytes were sent."""
        named = [
            child.descriptor
            for child in document(self.registry, row).contents.children
            if child.role in (Role.CONFIG, Role.LAYER)
        ]
        return sum(self._blob(repository, each.digest, each.media_type) for each in named)

    def _send(self, repository: RepositoryName, row: ManifestRow, *tags: Tag) -> bool:
        found, signed = document(self.registry, row), self.registry.manifests.signed(row)
        outgoing = Outgoing(
            repository,
            row.media_type,
            found.payload,
            row.digest,
            found.contents.subject,
            read_document(self.registry, signed.digest) if signed else None,
        )
        return self.target.manifest(outgoing, tags)

    def _blob(self, repository: RepositoryName, digest: Digest, media_type: str) -> int:
        if self.stop.is_set():
            raise Stopped
        with self._locks.lock(digest):
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
        blobs = self.registry.blobs
        return SourceBytes(size, partial(blobs.open, digest), blobs.path(digest))

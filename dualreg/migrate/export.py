"""Export of tags to a target: blobs first, then manifests, and tags last."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from dualreg.catalog.rows import BlobRow, ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Child, Role
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.graph import ManifestGraph, is_blob_only, load_document, tags_about
from dualreg.migrate.names import Names
from dualreg.migrate.parallel import pooled
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.single_flight import Done, KeyedLocks
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.stopping import Stopped
from dualreg.migrate.targets.base import Outgoing, Target
from dualreg.migrate.transfer import is_output_error
from dualreg.registry import Registry
from dualreg.registry.accept import Accept
from dualreg.remote.endpoint import RemoteError
from dualreg.storage.names import V1Name

_PAGE = 1000


def entries_to_export(registry: Registry, names: Names) -> Iterator[Entry]:
    """Yield every selected tag, even if `bridge` hides it, and tags named after its manifests."""
    last = ""
    while True:
        page = registry.repositories.list(last=last, limit=_PAGE)
        for name in page.rows:
            tags = registry.tags.list_all(name)
            chosen = {tag for tag in tags if names.selects(name, f"{name}:{tag}")}
            others = {tag for tag in tags if names.allow(name, f"{name}:{tag}")} - chosen
            for tag in sorted(chosen | tags_about(registry, name, chosen, others)):
                yield Entry(name, tag, "", name, tag, PlanAction.IMPORT)
        if not page.more:
            return
        last = page.end


@dataclass
class Export:
    """Copies tags to a target; blobs and manifests that several tags share are sent once.

    Attributes:
        stop: Set from outside to stop early: what was started is finished first.
        on_outcome: Called with each outcome.
        convert_schema1: Convert schema 1 even if the target takes it.
        on_blob: Called with each blob that was sent, and its repository.
    """

    registry: Registry
    target: Target
    stop: Event = field(default_factory=Event)
    on_outcome: Callable[[Outcome], None] = lambda _: None
    convert_schema1: bool = False
    on_blob: Callable[[RepositoryName, BlobRow], None] = lambda *_: None
    _done: Done = field(default_factory=Done)
    _locks: KeyedLocks = field(default_factory=KeyedLocks)

    def export_all(self, entries: Iterable[Entry], jobs: int) -> Sequence[Outcome]:
        """Export *entries*, *jobs* at a time if the target allows it; return their outcomes in order."""
        with ThreadPoolExecutor(1 if self.target.one_by_one else jobs) as pool:
            outcomes = [*pooled(pool, self._export_one, entries)]
        self.target.finish()
        return outcomes

    def _export_one(self, entry: Entry) -> Outcome:
        try:
            outcome = self._export(entry)
        except Stopped:
            outcome = Outcome(entry, Status.STOPPED, "run again to continue")
        except (Broken, RemoteError) as error:
            outcome = Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobDamaged, BlobMissing, ValueError) as error:  # or no JSON any more
            outcome = Outcome(entry, Status.FAILED, f"incomplete in this registry: {error}")
        except OSError as error:
            if is_output_error(error):
                self.stop.set()  # every other tag would fail, too
                raise
            outcome = Outcome(entry, Status.FAILED, f"read or write failed: {error}")
        except BaseException:
            self.stop.set()
            raise
        self.on_outcome(outcome)
        return outcome

    def _export(self, entry: Entry) -> Outcome:
        if self.stop.is_set():
            raise Stopped
        repository, tag = RepositoryName(entry.repository), Tag(entry.tag)
        stored = self._manifest_row(repository, tag)
        top = self._readable(repository, tag, stored)
        order = ManifestGraph(self.registry, self.target.renames).in_order(repository, top)
        # The tag comes last: after the referrers of its manifest, which come after the manifest itself.
        before = order[:-1] if order[-1].digest == top.digest else order
        parts = [self._untagged(repository, row) for row in before]
        sent = sum(size for size, _ in parts) + self._blobs(repository, top)
        changed = self._send(repository, top, tag) or any(new for _, new in parts)
        status = Status.DONE if sent or changed else Status.SAME
        converted = "" if top.digest == stored.digest else str(stored.digest)
        return Outcome(entry, status, "", str(top.digest), sent, converted, self._note(top.media_type))

    def _note(self, media_type: str) -> str:
        """Return which registry cannot serve a manifest of that type from the target; empty: none."""
        if self.target.served is None or media_type in self.target.served:
            return ""
        kind = "schema 1" if media_type in media_types.SCHEMA1_TYPES else media_type
        return f"registry 3 does not serve {kind}"

    def _manifest_row(self, repository: RepositoryName, tag: Tag) -> ManifestRow:
        """Return the manifest of a tag, even if `bridge` hides it."""
        row = self.registry.manifests.peek(repository, tag)
        return row or self.registry.manifests.find(repository, tag)  # which raises the reason

    def _readable(self, repository: RepositoryName, tag: Tag, row: ManifestRow) -> ManifestRow:
        """Return the manifest to export: schema 1 is converted if the target does not take it, or as chosen.

        Raises:
            Broken: it cannot be.
        """
        if row.media_type not in media_types.SCHEMA1_TYPES:
            return row
        if self.target.takes_schema1 and not self.convert_schema1:
            return row
        wanted = media_types.OCI_MANIFEST if self.target.renames else media_types.DOCKER_MANIFEST
        newer = self.registry.negotiation.find(repository, tag, Accept(frozenset({wanted})))
        if newer.media_type in media_types.SCHEMA1_TYPES:
            raise Broken(FindingKind.NO_PLACE, f"{repository}:{tag}", "schema 1 that cannot be converted")
        return self.registry.manifests.find(repository, newer.digest)

    def _untagged(self, repository: RepositoryName, row: ManifestRow) -> tuple[int, bool]:
        """Export a manifest without a tag, once; return how many bytes were sent, and whether it was new."""
        if self._done.has(repository, row.digest):
            return 0, False
        sent = self._blobs(repository, row)
        with self._locks.lock((repository, row.digest)):
            new = not self._done.has(repository, row.digest) and self._send(repository, row)
            self._done.add(repository, row.digest)
        return sent, new

    def _blobs(self, repository: RepositoryName, row: ManifestRow) -> int:
        """Export the blobs that a manifest names; return how many bytes were sent."""
        named = [
            child.descriptor
            for child in load_document(self.registry, row).contents.children
            if self._is_blob(repository, child)
        ]
        return sum(self._blob(repository, each.digest, each.media_type) for each in named)

    def _is_blob(self, repository: RepositoryName, child: Child) -> bool:
        """Return whether a child is exported as a blob; entries of indexes are, if they are no manifests."""
        if child.role is Role.MANIFEST:
            return is_blob_only(self.registry, repository, child.descriptor.digest)
        return child.role in (Role.CONFIG, Role.LAYER)

    def _send(self, repository: RepositoryName, row: ManifestRow, *tags: Tag) -> bool:
        found = load_document(self.registry, row)
        outgoing = Outgoing(
            repository,
            row.media_type,
            found.payload,
            row.digest,
            found.contents.subject,
            self.registry.negotiation.signed(repository, row),
            tuple(self._v1_images(repository, row)) if self.target.takes_v1 else (),
        )
        return self.target.manifest(outgoing, tags)

    def _v1_images(self, repository: RepositoryName, row: ManifestRow) -> Iterator[tuple[V1Name, bytes]]:
        """Export the layers of the V1 images that a manifest was made of; yield the images, base first."""
        for each in self.registry.bridge.pushed_images(repository, row):
            if each.layer:  # which may be another form of that in the manifest
                self._blob(repository, each.layer, media_types.OCTET_STREAM)
                facts = each.parent, each.diff_id, each.checksum, each.tarsum, each.tarsum_verified
                name = V1Name(each.id, each.json, each.layer, *facts)
                yield name, self.registry.v1_images.json(each)

    def _blob(self, repository: RepositoryName, digest: Digest, media_type: str) -> int:
        if self.stop.is_set():
            raise Stopped
        with self._locks.lock(digest):
            if self._done.has(repository, digest):
                return 0
            try:
                size = self.registry.blobs.stat(repository, digest).size
            except RegistryError:
                if media_types.is_distributable(media_type):
                    raise
                return 0  # clients fetch it from its vendor
            sent = self.target.blob(repository, digest, self._bytes(digest, size))
            self._done.add(repository, digest)
            if sent:
                self.on_blob(repository, BlobRow(digest, size))
            return sent

    def _bytes(self, digest: Digest, size: int) -> SourceBytes:
        blobs = self.registry.blobs
        return SourceBytes(size, partial(blobs.open, digest), blobs.path(digest))

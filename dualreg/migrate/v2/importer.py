"""Import of manifests: blobs first, then manifests, children before their indexes, and the tag last.

If the source knows the V1 images that a manifest was made of, they are imported before it, under their IDs.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageExists
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.base import (
    CurrentManifest,
    Imported,
    current_manifest,
    journal_tag_update,
    pushed_at,
    require_unchanged,
)
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.graph import absent_entries
from dualreg.migrate.journal import Journal
from dualreg.migrate.layer_facts import KnownLayers
from dualreg.migrate.plan import Entry
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import Done, KeyedLocks
from dualreg.migrate.sources.base import ManifestSource, SourceBytes, SourceImage
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import LARGE, LinkMode, read_blob, stage_blob
from dualreg.migrate.v1.images import ImageImporter
from dualreg.migrate.v2.documents import has_entry, read_entry, read_manifest
from dualreg.migrate.v2.together import ManifestsTogether
from dualreg.registry import Registry
from dualreg.registry.preconditions import UNCONDITIONAL, Precondition
from dualreg.registry.provenance import Provenance


@dataclass
class V2Importer:
    """An Importer of manifests.

    Attributes:
        link: How blobs get into the store.
        stop: Says whether to go on.
        known: The facts of V1 layers that earlier runs read, by image ID.
    """

    registry: Registry
    source: ManifestSource
    journal: Journal
    link: LinkMode = LinkMode.AUTO
    stop: Stop = field(default_factory=Stop)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    known: KnownLayers = field(default_factory=KnownLayers)
    _imported: Done = field(default_factory=Done)
    _sparse: dict[RepositoryName, bool] = field(default_factory=dict)
    _presence: Presence = field(init=False)
    _images: ImageImporter = field(init=False)
    _together: ManifestsTogether = field(init=False)

    def __post_init__(self) -> None:
        self._presence = Presence(self.registry)
        self._images = ImageImporter(
            self.registry, self.journal, self.link, self.known, self.locks, self.stop
        )
        self._together = ManifestsTogether(
            self.registry, self.source, self.journal, self.link, self.stop, self.locks, self._presence
        )

    def is_same(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        del repository
        return str(current.digest) == image

    def is_complete(self, entry: Entry, repository: RepositoryName, current: CurrentManifest) -> bool:
        chain = self._chain(entry.repository, current.digest)
        if chain and not self._is_seen_as(chain[-1], repository, current):
            return False
        return self._presence.manifest(repository, current.digest) and not self._lacks(entry, repository)

    def _lacks(self, entry: Entry, repository: RepositoryName) -> bool:
        """Return whether the source has more of a sparse index than this registry, which it should have."""
        if repository not in self._sparse:
            self._sparse[repository] = self.registry.manifests.awaits_any(repository)
        if not self._sparse[repository]:
            return False
        top, source = Digest.parse(entry.image), partial(has_entry, self.source, entry.repository)
        return any(map(source, absent_entries(self.registry, repository, top)))

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        digest = Digest.parse(entry.image)
        manifest = read_manifest(self.source, entry.repository, digest)
        read, provenance = self._parts(entry.repository, repository, manifest)
        undeleted = Precondition(pushed_at=pushed_at(entry))
        if tag is None:
            self._put(repository, manifest, provenance, undeleted)
            return read
        made = current_manifest(self.registry, repository, digest) is None
        journal_tag_update(self.journal, entry, before, made=made, manifest=digest)
        self._record(repository, manifest, provenance, undeleted)
        expected, at = require_unchanged(entry, before), pushed_at(entry)
        origin, agent = self.source.pusher(entry.repository, entry.tag)
        self.registry.manifests.retag(repository, tag, digest, origin, condition=expected, at=at, agent=agent)
        return read

    def import_new(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        return self._together.import_new(entries)

    def _chain(self, source: str, digest: Digest) -> tuple[SourceImage, ...]:
        """Return the V1 images that a manifest was made of; none if one is lost, which the survey names."""
        with suppress(Broken):
            return self.source.v1_chain(source, digest)
        return ()

    def _is_seen_as(self, image: SourceImage, repository: RepositoryName, current: CurrentManifest) -> bool:
        """Return whether V1 clients see a manifest as *image*, or as another one that a client pushed."""
        if current.v1_image in (None, image.id):
            return current.v1_image is not None
        seen = self.registry.v1_images.peek(repository, ImageId(str(current.v1_image)))
        return seen is not None and seen.checksum is not None

    def _parts(self, source: str, repository: RepositoryName, manifest: Manifest) -> tuple[int, Provenance]:
        """Import all that a manifest names, or was made of.

        Return how many bytes were read, and as what V1 clients of the source see the manifest, since when.
        """
        chain = self._chain(source, manifest.digest)
        read = self._images.add(repository, chain)
        blobs = (child.descriptor.digest for child in manifest.required if child.role is not Role.MANIFEST)
        needed = [each for each in blobs if each != empty_layer().digest]  # which need not be stored
        read += self._import_blobs(source, repository, needed)
        for entry in self.registry.manifests.rules.chosen(manifest.entries):
            read += self._entry(source, repository, entry.descriptor)
        at = self.source.pushed_at(source, manifest.digest)
        return read, Provenance(chain[-1].id if chain else None, at)

    def _entry(self, source: str, repository: RepositoryName, entry: Descriptor) -> int:
        """Import an entry of an index; one that is missing is skipped if sparse indexes are allowed."""
        with self.locks.lock((repository, entry.digest)):
            if self._imported.has(repository, entry.digest):
                return 0
            try:
                manifest = read_entry(self.source, source, entry)
                if manifest is None:
                    return self._import_blobs(source, repository, [entry.digest])
                read, provenance = self._parts(source, repository, manifest)
            except Broken as error:
                if (
                    error.finding.kind is FindingKind.MISSING_MANIFEST
                    and self.registry.manifests.rules.sparse_indexes
                ):
                    return 0
                raise
            self._put(repository, manifest, provenance)
            return read

    def _put(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        provenance: Provenance,
        condition: Precondition = UNCONDITIONAL,
    ) -> None:
        """Journal and record a manifest without a tag."""
        made = current_manifest(self.registry, repository, manifest.digest) is None
        self.journal.write("manifest", repository=repository, digest=str(manifest.digest), made=made)
        self._record(repository, manifest, provenance, condition)
        self._imported.add(repository, manifest.digest)

    def _record(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        provenance: Provenance,
        condition: Precondition,
    ) -> None:
        """Record a manifest, as V1 clients of the source see it unless one pushed the same one."""
        body = manifest.signed or manifest.payload
        if manifest.contents.named and not manifest.signed:
            body = self.registry.negotiation.sign(manifest.payload)
        put = partial(self.registry.manifests.put, repository, manifest.digest, manifest.media_type, body)
        try:
            put(condition=condition, provenance=provenance)
        except ImageExists:
            put(condition=condition, provenance=Provenance(None, provenance.pushed_at))

    def _import_blobs(self, source: str, repository: RepositoryName, digests: Iterable[Digest]) -> int:
        """Import the blobs of a manifest, unless another thread has; return how many bytes were read.

        Those that the store has are linked all at once, or right after a large one was read, for which a run
        that is killed would have to read it again.

        Raises:
            Broken: the source lacks one, or its bytes do not have its digest.
        """
        self.stop.check()
        wanted = [each for each in dict.fromkeys(digests) if not self._imported.has(repository, each)]
        known = self.registry.blobs.known(repository, wanted) if wanted else {}
        read, unsaved, shared = 0, 0, list[BlobRow]()
        try:
            for digest in wanted:
                blob, is_linked = known.get(digest, (None, False))
                size, fresh = 0, None if is_linked else blob
                if not (blob and self._presence.blobs([blob])):
                    size, fresh = self._import_once(source, repository, digest)
                read += size
                if fresh:
                    shared.append(fresh)
                    unsaved += size
                if unsaved > LARGE:
                    self._share(repository, shared)
                    unsaved, shared = 0, []
        finally:
            self._share(repository, shared)
        self._imported.add(repository, *wanted)
        return read

    def _import_once(
        self, source: str, repository: RepositoryName, digest: Digest
    ) -> tuple[int, BlobRow | None]:
        """Bring a blob into the store; return how many bytes were read, and it, unless it was linked, too."""
        self.stop.check()
        with self.locks.lock(digest):
            if self._imported.has(repository, digest):
                return 0, None
            if known := self._presence.find(digest):  # by now
                return 0, known
            found = self.source.blob(source, digest)
            if found.path and self.registry.blobs.keeps(Path(found.path), digest):
                return self._hash_in_place(found, digest)
            size = self._stage(repository, found, digest)
            self._imported.add(repository, digest)
            return size, None

    def _hash_in_place(self, found: SourceBytes, digest: Digest) -> tuple[int, BlobRow]:
        """Read a blob that the store has, unless another thread has; return as ``_import_once``."""
        blob = BlobRow(digest, found.size)
        if self._presence.is_noted(blob):
            return 0, blob
        blob = read_blob(found, digest, str(digest))
        self._presence.note(blob)
        return blob.size, blob

    def _stage(self, repository: RepositoryName, found: SourceBytes, digest: Digest) -> int:
        with self.registry.uploads.staging() as staged:
            blob = stage_blob(staged, found, digest, self.link, self.stop.check_room, where=str(digest))
            self._journal_blobs(repository, [blob])
            self.registry.uploads.publish(repository, staged, blob)
        return blob.size

    def _share(self, repository: RepositoryName, blobs: Sequence[BlobRow]) -> None:
        if blobs:
            self._journal_blobs(repository, blobs)
            self.registry.blobs.share(repository, *blobs)

    def _journal_blobs(self, repository: RepositoryName, blobs: Iterable[BlobRow]) -> None:
        steps = ({"repository": repository, "digest": str(each.digest), "size": each.size} for each in blobs)
        self.journal.write_all("blob", steps)

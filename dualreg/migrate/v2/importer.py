"""Import of manifests: blobs first, then manifests, children before their indexes, and the tag last."""

from dataclasses import dataclass, field

from dualreg.catalog.rows import BlobRow, Origin
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import (
    CurrentManifest,
    current_manifest,
    journal_tag_update,
    pushed_at,
    require_unchanged,
)
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import ManifestSource, SourceBytes
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import DigestVerifier, LinkMode, feed, stage
from dualreg.migrate.v2.documents import read_entry, read_manifest
from dualreg.registry import Registry
from dualreg.registry.preconditions import UNCONDITIONAL, Precondition


@dataclass
class V2Importer:
    """An Importer of manifests.

    Attributes:
        link: How blobs get into the store.
        stop: Says whether to go on.
    """

    registry: Registry
    source: ManifestSource
    journal: Journal
    link: LinkMode = LinkMode.AUTO
    stop: Stop = field(default_factory=Stop)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    _imported: set[tuple[RepositoryName, Digest]] = field(default_factory=set)
    _presence: Presence = field(init=False)

    def __post_init__(self) -> None:
        self._presence = Presence(self.registry)

    def is_same(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        del repository
        return str(current.digest) == image

    def is_complete(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        del image
        return self._presence.manifest(repository, current.digest)

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        digest = Digest.parse(entry.image)
        manifest = read_manifest(self.source, entry.repository, digest)
        read = self._parts(entry.repository, repository, manifest)
        undeleted = Precondition(pushed_at=pushed_at(entry))
        if tag is None:
            self._put(repository, manifest, undeleted)
            return read
        made = current_manifest(self.registry, repository, digest) is None
        journal_tag_update(self.journal, entry, before, made=made, manifest=digest)
        self._record(repository, manifest, undeleted)
        expected, at = require_unchanged(entry, before), pushed_at(entry)
        self.registry.manifests.retag(repository, tag, digest, Origin.V2, condition=expected, at=at)
        return read

    def _parts(self, source: str, repository: RepositoryName, manifest: Manifest) -> int:
        """Import all that a manifest names; return how many bytes were read."""
        read = 0
        for child in manifest.children:
            part = child.descriptor.digest
            if child.role is Role.MANIFEST:
                read += self._entry(source, repository, child.descriptor)
            elif child in manifest.required and part != empty_layer().digest:
                read += self._blob(source, repository, part)
        return read

    def _entry(self, source: str, repository: RepositoryName, entry: Descriptor) -> int:
        """Import an entry of an index; one that is missing is skipped if sparse indexes are allowed."""
        with self.locks.lock((repository, entry.digest)):
            if (repository, entry.digest) in self._imported:
                return 0
            try:
                manifest = read_entry(self.source, source, entry)
                if manifest is None:
                    return self._blob(source, repository, entry.digest)
                read = self._parts(source, repository, manifest)
            except Broken as error:
                if (
                    error.finding.kind is FindingKind.MISSING_MANIFEST
                    and self.registry.manifests.rules.sparse_indexes
                ):
                    return 0
                raise
            self._put(repository, manifest)
            return read

    def _put(
        self, repository: RepositoryName, manifest: Manifest, condition: Precondition = UNCONDITIONAL
    ) -> None:
        """Journal and record a manifest without a tag."""
        made = current_manifest(self.registry, repository, manifest.digest) is None
        self.journal.write("manifest", repository=repository, digest=str(manifest.digest), made=made)
        self._record(repository, manifest, condition)
        self._imported.add((repository, manifest.digest))

    def _record(self, repository: RepositoryName, manifest: Manifest, condition: Precondition) -> None:
        body = manifest.signed or manifest.payload
        if manifest.contents.named and not manifest.signed:
            body = self.registry.negotiation.sign(manifest.payload)
        self.registry.manifests.put(
            repository, manifest.digest, manifest.media_type, body, condition=condition
        )

    def _blob(self, source: str, repository: RepositoryName, digest: Digest) -> int:
        """Import a blob, unless another thread has; return how many bytes were read for it.

        Raises:
            Broken: the source lacks it, or its bytes do not have its digest.
        """
        self.stop.check()
        with self.locks.lock(digest):
            if (repository, digest) in self._imported:
                return 0
            read = self._import_once(source, repository, digest)
            self._imported.add((repository, digest))
            return read

    def _import_once(self, source: str, repository: RepositoryName, digest: Digest) -> int:
        blobs = self.registry.blobs
        linked = blobs.find(repository, digest)
        known = linked or blobs.find_anywhere(digest)
        if known and self._presence.blobs([known]):
            if not linked:
                self._share(repository, known)
            return 0
        found = self.source.blob(source, digest)
        if found.path and blobs.keeps(found.path, digest):
            size = self._hash_in_place(found, digest)
            self._share(repository, BlobRow(digest, size))
        else:
            size = self._stage(repository, found, digest)
        return size

    def _hash_in_place(self, found: SourceBytes, digest: Digest) -> int:
        verifier = DigestVerifier(digest)
        feed(found, verifier.update, str(digest))
        verifier.check()
        return verifier.size

    def _stage(self, repository: RepositoryName, found: SourceBytes, digest: Digest) -> int:
        verifier = DigestVerifier(digest)
        with self.registry.uploads.staging() as staged:
            stage(staged, found, self.link, verifier.update, self.stop.check_room, where=str(digest))
            verifier.check()
            blob = BlobRow(digest, verifier.size)
            self._journal_blob(repository, blob)
            self.registry.uploads.publish(repository, staged, blob)
        return blob.size

    def _share(self, repository: RepositoryName, blob: BlobRow) -> None:
        self._journal_blob(repository, blob)
        self.registry.blobs.share(repository, blob)

    def _journal_blob(self, repository: RepositoryName, blob: BlobRow) -> None:
        self.journal.write("blob", repository=repository, digest=str(blob.digest), size=blob.size)

"""Intake of saved images: layers are made gzip, always the same, and the manifest names config and layers."""

from dataclasses import dataclass, field
from threading import Event

from dualreg.catalog.rows import BlobRow, Origin
from dualreg.errors import ImageInvalid
from dualreg.image import media_types
from dualreg.image.convert import V1Layer, image_manifest
from dualreg.image.digest import Digest, Hasher
from dualreg.image.formats import Role
from dualreg.image.layer import DiffIdHasher
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import CurrentManifest, Stopped
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.importer import current_manifest, journal_tag_update, pushed_at, require_unchanged
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.sources.docker_archive import SavedImages, compressed
from dualreg.migrate.transfer import chunks_of
from dualreg.registry import Registry
from dualreg.storage.base import tee


def config_of(registry: Registry, repository: RepositoryName, digest: Digest) -> str:
    """Return the digest of the config that a manifest here names; empty if it names none."""
    row = registry.manifests.peek(repository, digest)
    if row is None or row.media_type not in media_types.IMAGES:
        return ""
    children = stored_contents(row.media_type, registry.manifests.payload(row)).children
    return next((str(child.descriptor.digest) for child in children if child.role is Role.CONFIG), "")


@dataclass
class SavedImporter:
    """An Intake of saved images.

    Attributes:
        known: What layers became in earlier runs, by diff id.
        stop: Ends it between two layers.
    """

    registry: Registry
    source: SavedImages
    journal: Journal
    known: dict[Digest, BlobRow] = field(default_factory=dict)
    stop: Event = field(default_factory=Event)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    _store: Presence = field(init=False)

    def __post_init__(self) -> None:
        """Nothing was looked at yet."""
        self._store = Presence(self.registry)

    def is_same(self, repository: RepositoryName, image: str, here: CurrentManifest) -> bool:
        """See Intake."""
        return config_of(self.registry, repository, here.digest) == image

    def is_complete(self, repository: RepositoryName, image: str, here: CurrentManifest) -> bool:
        """See Intake."""
        del image
        return self._store.manifest(repository, here.digest)

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        """See Intake."""
        image, layers, read = self.source.image(entry.image), list[V1Layer](), 0
        for diff_id, source in zip(image.diff_ids, image.layers, strict=True):
            if self.stop.is_set():
                raise Stopped
            with self.locks.lock(diff_id):
                blob, count = self._layer(repository, diff_id, source)
            layers.append(V1Layer(blob.digest, blob.size, diff_id))
            read += count
        media_type = media_types.DOCKER_MANIFEST
        payload = image_manifest(media_type, image.config, layers)
        digest = Digest.of(payload)
        made = current_manifest(self.registry, repository, digest) is None
        if tag:
            journal_tag_update(self.journal, entry, before, made=made, manifest=digest)
        else:
            self.journal.write("manifest", repository=repository, digest=str(digest), made=made)
        self.registry.uploads.ingest(repository, [image.config])
        self.registry.manifests.put(repository, digest, media_type, payload)
        if tag:
            expected, at = require_unchanged(entry, before), pushed_at(entry)
            self.registry.manifests.retag(repository, tag, digest, Origin.V2, condition=expected, at=at)
        return read

    def _layer(self, repository: RepositoryName, diff_id: Digest, source: SourceBytes) -> tuple[BlobRow, int]:
        """Take in a layer; return what it became, and how many bytes were read for it.

        Raises:
            Broken: it is not what the config says.
        """
        known = self.known.get(diff_id)
        if known and self._is_stored(known):
            self._announce(repository, diff_id, known)
            self.registry.blobs.share(repository, known)
            return known, 0
        inside, packed, uploads = DiffIdHasher(zstd=True), Hasher(), self.registry.uploads
        try:
            with uploads.staging() as staged:
                read = chunks_of(lambda: compressed(source), str(diff_id))
                size = staged.write(tee(read, packed.update, inside.update))
                if inside.digest() != diff_id:
                    raise Broken(FindingKind.CORRUPT, str(diff_id), f"its files are {inside.digest()}")
                blob = BlobRow(packed.digest(), size)
                self._announce(repository, diff_id, blob)
                uploads.publish(repository, staged, blob)
        except ImageInvalid as error:
            raise Broken(FindingKind.CORRUPT, str(diff_id), error.reason) from error
        self.known[diff_id] = blob
        return blob, source.size

    def _is_stored(self, blob: BlobRow) -> bool:
        return self.registry.blobs.find_anywhere(blob.digest) is not None and self._store.blobs([blob])

    def _announce(self, repository: RepositoryName, diff_id: Digest, blob: BlobRow) -> None:
        self.journal.write(
            "blob", repository=repository, digest=str(blob.digest), size=blob.size, diff_id=str(diff_id)
        )

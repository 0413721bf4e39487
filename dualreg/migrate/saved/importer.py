"""Import of saved images: layers are compressed reproducibly, and a manifest is made of config and layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dualreg.catalog.rows import BlobRow, Origin
from dualreg.errors import ImageInvalid
from dualreg.image import media_types
from dualreg.image.convert import V1Layer, image_manifest
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import LayerHasher
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import (
    CurrentManifest,
    Imported,
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
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.sources.docker_archive import SavedImages, compressed
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import chunks_of
from dualreg.registry import Registry
from dualreg.storage.base import tee


def config_of(registry: Registry, repository: RepositoryName, digest: Digest) -> str:
    """Return the digest of the config that a manifest of this registry names; empty if it names none."""
    row = registry.manifests.peek(repository, digest)
    if row is None or row.media_type not in media_types.IMAGES:
        return ""
    children = stored_contents(row.media_type, registry.manifests.payload(row)).children
    return next((str(child.descriptor.digest) for child in children if child.role is Role.CONFIG), "")


@dataclass
class SavedImporter:
    """An Importer of saved images.

    Attributes:
        known: The blobs that earlier runs made of layers, by diff ID.
        stop: Says whether to go on.
    """

    registry: Registry
    source: SavedImages
    journal: Journal
    known: dict[Digest, BlobRow] = field(default_factory=dict)
    stop: Stop = field(default_factory=Stop)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    _presence: Presence = field(init=False)

    def __post_init__(self) -> None:
        self._presence = Presence(self.registry)

    def is_same(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        return config_of(self.registry, repository, current.digest) == image

    def is_complete(self, entry: Entry, repository: RepositoryName, current: CurrentManifest) -> bool:
        del entry
        return self._presence.manifest(repository, current.digest)

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        image, layers, read = self.source.image(entry.image), list[V1Layer](), 0
        for diff_id, source in zip(image.diff_ids, image.layers, strict=True):
            self.stop.check()
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

    def import_new(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        del entries  # an archive has few, whose layers are compressed anew
        return iter(())

    def _layer(self, repository: RepositoryName, diff_id: Digest, source: SourceBytes) -> tuple[BlobRow, int]:
        """Import a layer; return its compressed blob, and how many bytes were read for it.

        Raises:
            Broken: it does not have the diff ID that the config gives.
        """
        known = self.known.get(diff_id)
        if known and self._presence.find(known.digest) == known:
            self._journal_blob(repository, diff_id, known)
            self.registry.blobs.share(repository, known)
            return known, 0
        layer, uploads = LayerHasher(zstd=True), self.registry.uploads
        try:
            with uploads.staging() as staged:
                read = chunks_of(lambda: compressed(source), str(diff_id))
                size = staged.write(tee(read, self.stop.check_room, layer.update))
                if layer.diff_id() != diff_id:
                    raise Broken(FindingKind.CORRUPT, str(diff_id), f"its diff ID is {layer.diff_id()}")
                blob = BlobRow(layer.digest(), size)
                self._journal_blob(repository, diff_id, blob)
                uploads.publish(repository, staged, blob)
        except ImageInvalid as error:
            raise Broken(FindingKind.CORRUPT, str(diff_id), error.reason) from error
        self.known[diff_id] = blob
        return blob, source.size

    def _journal_blob(self, repository: RepositoryName, diff_id: Digest, blob: BlobRow) -> None:
        self.journal.write(
            "blob", repository=repository, digest=str(blob.digest), size=blob.size, diff_id=str(diff_id)
        )

"""Repairs of V1 images: what a client sends again of a complete image whose files are lost or damaged.

A complete image is never replaced, so what is taken must be what was lost: the same JSON, the same files.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dualreg.catalog.rows import BlobRow, RepositoryRow, SentLayer, V1ImageRow
from dualreg.errors import BlobDamaged, BlobMissing, ImageExists
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import LayerHasher, have_same_files
from dualreg.image.names import ImageId, RepositoryName
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.integrity import Integrity
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.storage.links import Facts


@dataclass(frozen=True, slots=True)
class V1Repairs:
    """Finds complete V1 images that are lost or damaged, and takes their JSONs and layers again."""

    state: State
    documents: DocumentCache
    integrity: Integrity
    uploads: Uploads

    def is_lost(self, row: V1ImageRow) -> bool:
        """Return whether the JSON or the layer of a complete image is lost or damaged."""
        try:
            json = BlobRow(row.json, len(self.documents.read(row.json)))
        except (BlobMissing, BlobDamaged):
            return True
        return not (self.integrity.holds(json) and self.has_layer(row))

    def has_layer(self, row: V1ImageRow) -> bool:
        """Return whether the store has the layer of a complete image."""
        return row.layer is not None and self.integrity.holds(BlobRow(row.layer, row.layer_size or 0))

    def take_json(self, repository: RepositoryName, image: ImageId, json: bytes) -> bool:
        """Store the JSON of a complete image that is lost or damaged; return False if it is not.

        It is not enough that *json* means the same: the checksum is that of the JSON and the layer.
        """
        with self.state.catalog.read() as tx:
            row = tx.v1_images.find(repository, image)
        if row is None or not row.complete or Digest.of(json) != row.json or not self.is_lost(row):
            return False
        self.uploads.ingest(repository, [json], expected=row.json)
        return True

    def take_layer(
        self,
        repository: RepositoryName,
        row: V1ImageRow,
        chunks: Iterable[bytes],
        layer: LayerHasher,
        checksum: Hasher,
    ) -> None:
        """Store the layer of a complete image whose own is lost; one of the same files takes its place.

        Args:
            chunks: The layer; *layer* and *checksum* hash it while it is read.

        Raises:
            ImageExists: it has other files.
        """
        blob = self.uploads.ingest(repository, chunks, digest=layer.digest)
        sent = SentLayer(blob.digest, layer.diff_id(), checksum.digest())
        if blob.digest == row.layer:
            return
        if not have_same_files(row.diff_id, sent.diff_id):
            raise ImageExists(id=row.id)
        mended = replace(row, layer=sent.layer, diff_id=sent.diff_id, checksum=sent.checksum)
        with self.state.begin() as tx:
            tx.repositories.lock(repository)
            linked = tx.blobs.lock(row.repository_id, blob.digest)
            if linked and tx.v1_images.replace_layer(row, sent):
                write_v1_link(self.state, RepositoryRow(row.repository_id, repository), mended)


def v1_facts(image: V1ImageRow) -> Facts:
    """Return what the link file of a complete image says."""
    return {
        "parent": image.parent,
        "json": str(image.json),
        "layer": _text(image.layer),
        "diff_id": _text(image.diff_id),
        "checksum": _text(image.checksum),
        "tarsum": image.tarsum,
        "tarsum_verified": image.tarsum_verified,
    }


def write_v1_link(state: State, repository: RepositoryRow, image: V1ImageRow) -> None:
    """Write the link file of a complete image, within the transaction that records it."""
    state.links.add_v1_image(repository.name, image.id, v1_facts(image))


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)

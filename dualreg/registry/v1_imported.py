"""Imported V1 images, as ``V1Images.import_image`` takes them."""

from dataclasses import dataclass

from dualreg.catalog.rows import BlobRow, V1ImageRow
from dualreg.image.digest import Digest
from dualreg.image.v1_image import V1Image


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """A V1 image with everything that a client pushes of it, or that is derived in its place.

    Attributes:
        checksum: The payload checksum; None if it was derived from a manifest.
        tarsum: As its client stated it, if it did.
        tarsum_verified: Whether that agrees with the layer; None if the payload checksum proved the layer.
    """

    document: V1Image
    layer: BlobRow
    diff_id: Digest
    checksum: Digest | None
    tarsum: str | None = None
    tarsum_verified: bool | None = None

    def row(self, repository_id: int) -> V1ImageRow:
        """Return the catalog's form of the image."""
        return V1ImageRow(
            repository_id,
            self.document.id,
            self.document.parent,
            Digest.of(self.document.json),
            self.layer.digest,
            self.layer.size,
            self.diff_id,
            self.checksum,
            complete=True,
            tarsum=self.tarsum,
            tarsum_verified=self.tarsum_verified,
        )

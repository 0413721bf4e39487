"""Imported V1 images, as ``V1Images.import_images`` takes them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dualreg.catalog.rows import BlobRow, V1ImageRow
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.image.v1_image import V1Image
from dualreg.storage.staging import Staging


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


def blobs_of(
    images: Iterable[tuple[ImportedImage, Staging | None]], jsons: Iterable[UploadId]
) -> Iterator[tuple[UploadId | None, BlobRow]]:
    """Yield the JSONs, which are staged, and the layers of images, as ``State.arriving`` takes them."""
    for json, (image, layer) in zip(jsons, images, strict=True):
        yield json, BlobRow(Digest.of(image.document.json), len(image.document.json))
        yield layer.upload if layer else None, image.layer

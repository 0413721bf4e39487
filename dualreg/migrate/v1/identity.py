"""Identity: whether V1 images of a source and of this registry that share an ID are the same.

IDs are random, and copies of a registry can diverge. What JSONs mean, checksums and sizes are compared; a
layer is read only if they differ.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from dualreg.catalog.rows import BlobRow, V1ImageRow
from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.layer import have_same_files
from dualreg.image.names import RepositoryName
from dualreg.image.v1_meaning import mean_the_same
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.v1.layers import read_layer
from dualreg.registry import Registry


def id_collision(repository: RepositoryName, id_: str) -> Broken:
    """Return the finding for an image whose ID is that of another image in *repository*."""
    return Broken(FindingKind.COLLISION, id_, f"{repository} has another image with this ID")


@dataclass
class ImageIdentity:
    """Compares images, each once."""

    registry: Registry
    _results: SingleFlight[tuple[RepositoryName, str], Broken | tuple[BlobRow, ...]] = field(
        default_factory=SingleFlight
    )

    def all_present(self, repository: RepositoryName, images: Iterable[SourceImage]) -> bool:
        """Return whether the repository has all of *images*.

        Raises:
            Broken: it has another image with the ID of one of them, or one has to be read and cannot be.
        """
        return all(self._blobs_of(repository, image) for image in images)

    def blobs(self, repository: RepositoryName, images: Iterable[SourceImage]) -> Iterator[BlobRow]:
        """Yield the JSONs and layers of those of *images* that the repository has.

        Raises:
            Broken: as ``all_present``.
        """
        for image in images:
            yield from self._blobs_of(repository, image)

    def _blobs_of(self, repository: RepositoryName, image: SourceImage) -> tuple[BlobRow, ...]:
        found = self._results.get((repository, image.id), partial(self._compare, repository, image))
        if isinstance(found, Broken):
            raise found
        return found

    def _compare(self, repository: RepositoryName, image: SourceImage) -> Broken | tuple[BlobRow, ...]:
        """Return the JSON and layer of an image if the repository has it, else nothing."""
        row = self.registry.v1_images.peek(repository, image.id)
        if row is None or not row.complete or row.layer is None:
            return ()
        try:
            same = self._is_same_json(row, image.json()) and has_same_files(row, image)
        except Broken as error:
            return error
        if not same:
            return id_collision(repository, image.id)
        json = self.registry.blobs.stat(repository, row.json)
        return json, BlobRow(row.layer, row.layer_size or 0)

    def _is_same_json(self, row: V1ImageRow, json: bytes) -> bool:
        """Return whether a JSON of the source means the same as that of this registry, which may be lost."""
        if row.json == Digest.of(json):
            return True
        try:
            return mean_the_same(self.registry.v1_images.json(row), json)
        except (BlobMissing, BlobDamaged):
            return False


def has_same_files(row: V1ImageRow, image: SourceImage) -> bool:
    """Return whether an image of this registry has the files of *image*, whose layer is read if it differs.

    Raises:
        Broken: that cannot be read.
    """
    return _seems_same(row, image) or have_same_files(row.diff_id, Digest.parse(read_layer(image).diff_id))


def _seems_same(row: V1ImageRow, image: SourceImage) -> bool:
    """Return whether neither checksum nor size of the layer differs; unknown ones count as equal."""
    payloads = [stated.lower() for stated in image.checksums if stated.lower().startswith("sha256:")]
    agrees = not payloads or str(row.checksum) in payloads
    return agrees and (image.size or image.layer.known_size) in (None, row.layer_size)

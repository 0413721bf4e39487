"""Same: whether the images of the source are those that are here under their ids, told by small files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from dualreg.catalog.rows import BlobRow, V1ImageRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.v1.layers import read_layer
from dualreg.registry import Registry


def id_collision(repository: RepositoryName, id_: str) -> Broken:
    """Return what is said of an image whose id stands for something else here."""
    return Broken(FindingKind.COLLISION, id_, f"{repository} has another image of this id")


@dataclass
class ImageIdentity:
    """Compares by content, each image once: ids are random, and copies of registries go their own ways."""

    registry: Registry
    _looked: SingleFlight[tuple[RepositoryName, str], Broken | tuple[BlobRow, ...]] = field(
        default_factory=SingleFlight
    )

    def are_here(self, repository: RepositoryName, images: Iterable[SourceImage]) -> bool:
        """Tell whether all of *images* are here.

        Raises:
            Broken: something else has the id of one of them, or one that looks different cannot be read.
        """
        return all(self._found(repository, image) for image in images)

    def blobs(self, repository: RepositoryName, images: Iterable[SourceImage]) -> Iterator[BlobRow]:
        """Yield the JSONs and layers of those of *images* that are here.

        Raises:
            Broken: as ``are_here``.
        """
        for image in images:
            yield from self._found(repository, image)

    def _found(self, repository: RepositoryName, image: SourceImage) -> tuple[BlobRow, ...]:
        found = self._looked.get((repository, image.id), partial(self._look, repository, image))
        if isinstance(found, Broken):
            raise found
        return found

    def _look(self, repository: RepositoryName, image: SourceImage) -> Broken | tuple[BlobRow, ...]:
        """Return the JSON and the layer of an image that is here; nothing if it is not."""
        row = self.registry.v1_images.peek(repository, image.id)
        if row is None or not row.complete or row.layer is None:
            return ()
        try:
            json = image.json()
            same = row.json == Digest.of(json) and (
                _looks_the_same(row, image) or read_layer(image).diff_id == str(row.diff_id)
            )
        except Broken as error:
            return error
        if not same:
            return id_collision(repository, image.id)
        return BlobRow(row.json, len(json)), BlobRow(row.layer, row.layer_size or 0)


def _looks_the_same(row: V1ImageRow, image: SourceImage) -> bool:
    """Tell whether nothing says that the layer is another one; only then it needs to be read."""
    payloads = [stated.lower() for stated in image.checksums if stated.lower().startswith("sha256:")]
    agrees = not payloads or row.checksum is None or str(row.checksum) in payloads
    return agrees and image.size in (0, row.layer_size)

"""Whether V1 images that share an ID are the same, whoever wrote their JSONs and compressed their layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import RepositoryRow, V1ImageRow
from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image.layer import have_same_files
from dualreg.image.names import ImageId
from dualreg.image.schema1 import step_id
from dualreg.image.v1_meaning import mean_the_same
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import State


@dataclass(frozen=True, slots=True)
class RecordedAs:
    """V1 images, each replaced by the complete one of its ID that means the same to Docker, if there is one.

    Attributes:
        known: The complete images that the repository had under their IDs.
    """

    images: Sequence[V1ImageRow]
    known: Mapping[ImageId, V1ImageRow]

    @property
    def contradicted(self) -> Sequence[ImageId]:
        """The IDs of those that the repository has as another image."""
        return [image.id for image in self.images if self.known.get(image.id, image) != image]

    def is_pushed_otherwise(self, image: V1ImageRow) -> bool:
        """Return whether a client pushed another JSON or other files under the ID of an image."""
        known = self.known.get(image.id, image)
        return bool(known.checksum) and (known.json, known.diff_id) != (image.json, image.diff_id)

    def is_current(
        self, tx: Transaction, repository: RepositoryRow, added: Iterable[V1ImageRow] = ()
    ) -> bool:
        """Return whether the repository still has the same images under these IDs, but for those *added*."""
        current = tx.v1_images.complete_ones(repository.id, [image.id for image in self.images])
        return current == {**self.known, **{image.id: image for image in added}}


def recorded_as(
    state: State,
    documents: DocumentCache,
    repository: RepositoryRow,
    images: Iterable[tuple[V1ImageRow, bytes]],
) -> RecordedAs:
    """Return *images*, given with their JSONs, as the repository has them.

    Daemons write JSON anew, and releases compress the same files differently: images are compared by what
    their JSONs mean, their parents and their files.
    """
    given = [*images]
    with state.catalog.read() as tx:
        known = tx.v1_images.complete_ones(repository.id, [image.id for image, _ in given])

    def settled(image: V1ImageRow, json: bytes) -> V1ImageRow:
        found = known.get(image.id)
        return found if found and _is_same(documents, found, image, json) else image

    return RecordedAs([settled(image, json) for image, json in given], known)


def _is_same(documents: DocumentCache, known: V1ImageRow, image: V1ImageRow, json: bytes) -> bool:
    if known.parent != image.parent or not have_same_files(known.diff_id, image.diff_id):
        return False
    if image.layer and image.id == step_id(image.layer, image.parent or ""):
        return True  # the ID is that of the layers: images on the same ones differ in their history only
    try:
        return known.json == image.json or mean_the_same(documents.read(known.json), json)
    except (BlobMissing, BlobDamaged):
        return False
